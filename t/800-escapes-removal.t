# SPDX-License-Identifier: Apache-2.0
# The attacker prepares its files for the moment when root makes, opens and removes them: links where directories were, names that
# mean something to us, things that cannot be opened, swaps while the removal is asked for. Outside nothing may change.
use lib 't/lib';
use Brood;
use File::Find ();

require_layer('root', 'cgroup', 'python3');
my $brood = Brood->start;
my $victim = "$brood->{dir}/victim";
system "mkdir -p $victim/sub/deep && echo kept > $victim/file && echo kept > $victim/sub/deep/file && chown -R 1000:1000 $victim && chmod 755 $victim $victim/sub $victim/sub/deep && chmod 644 $victim/file";

sub outside {
    my @lines;
    File::Find::find({no_chdir => 1, wanted => sub { my @s = lstat; push @lines, sprintf '%s %o %d %d %d %s', $_, @s[2, 4, 5, 3], -f _ ? slurp($_) : '' }}, $victim);
    return join "\n", sort @lines;
}
my $before = outside();

sub removed {
    my ($what, @ns) = @_;
    my $out = `${\Brood::build()}/brood ns rm --socket $brood->{socket} @ns 2>&1`;
    is($?, 0, "$what: it is removed") or diag($out);
    my $left;
    ok(until_true(20, sub { $left = join ' ', grep { !/^\.(?:lock|blank-.*)$/ && !/^alice$/ } $brood->volumes; $left eq '' }), 'nothing is left on disk') or diag($left);
    return is(outside(), $before, 'what it pointed to is as it was');
}

$brood->sh(alice => 'echo kept > note.txt');
my %trees = (
    'links of all kinds' => "ln -s $victim dir; ln -s $victim/file file; ln -s / root; ln -s .. up; ln -s . self; ln -s loop loop; mkdir d; ln -s $victim d/dir; ln -s ../d d/again; ln -s $victim .hoisted-1; ln -s $victim .hoisted-2; ln -s /proc/self/root p",
    'names that are ours' => 'mkdir .lock .trash-1-1 .blank-1-1 .new-probe .hoisted-1; touch .hoisted-2 .trash-1-1/.lock; mkdir -p .hoisted-3/.hoisted-3/.hoisted-3; mkfifo .hoisted-4; ' . "ln -s $victim .hoisted-5",
    'odd names' => q(perl -e 'for my $n ("a" x 255, "\n", "\xff\xfe", "\x1b[2J", " ", "-rf", "*", "~", "a\nb/c" =~ s{/}{}r, "\xe2\x80\xae", map { chr } 1 .. 46, 48 .. 255) { mkdir $n or next; open my $f, ">", "$n/$n" } print 0 + (() = glob "*")'),
    'what cannot be opened' => 'mkfifo fifo; perl -MIO::Socket::UNIX -e "IO::Socket::UNIX->new(Local => q(sock), Listen => 1)"; mkdir -p closed/a/b; touch closed/a/b/c; chmod 0 closed/a/b/c closed/a/b closed/a closed; mkdir w; touch w/x; chmod 300 w; mkdir n; touch n/x; chmod 555 n; mkdir -m 1777 s; touch s/x; chmod 7000 s',
    'hard links' => 'mkdir a b; touch a/f; for i in {1..300}; do ln a/f b/f$i; done; chmod 0 a; ln b/f1 top; chmod 000 top',
    'closed at the top' => 'mkdir -p x/y; chmod 0 x; chmod 0 /work',
    'deep, wide and crossed' => 'perl -e "for (1 .. 300) { mkdir q(d); symlink q(d), q(l); mkdir q(e); open F, q(>), q(e/f); chdir q(d) }"; mkdir wide; touch wide/{1..500}',
);
for my $what (sort keys %trees) {
    my $r = $brood->sh(mallory => "$trees{$what}; true", timeout => 20);
    is($r->{http}, 200, "$what: made") or diag($r->{stderr});
    cmp_ok($brood->sh(mallory => 'chmod 700 /work; n=$(find . 2>/dev/null | wc -l); [[ ! -d x ]] || chmod 0 /work; echo $n')->{stdout}, '>=', 2, 'control: it is there');
    removed($what, 'mallory');
}

# While the removal is asked for, again and again, its runs swap a directory for a link to the outside.
my $swap = <<'PERL';
mkdir 'a'; mkdir 'a/b'; open my $f, '>', 'a/b/c'; symlink $ARGV[0], 'l'; my $end = time + 60;
while (!-e 'enough' && time < $end) { rename 'a', 't'; rename 'l', 'a'; rename 'a', 'l'; rename 't', 'a'; my ($a, $l) = ('a', 'l'); syscall 316, -100, $a, -100, $l, 2 for 1 .. 20 }
PERL
my $conn = $brood->post(mallory => "touch swaps; exec perl - $victim", stdin => $swap, timeout => 60);
ok($brood->wait_file('swaps'), 'a run swaps a directory and a link');
my ($busy, $other) = (0, '');
for (1 .. 6) {
    my $out = `${\Brood::build()}/brood ns rm --socket $brood->{socket} mallory 2>&1`;
    $? ? $busy++ : ($other = $out);
}
is($busy, 6, 'a namespace that runs is not removed') or diag($other);
spew("$brood->{fs_root}/mallory/enough");
$brood->result($conn, 20);
removed('after the race', 'mallory');

# Runs that come while their namespace goes: each begins in the old one or in a new one, never in what is being deleted.
my @odd;
for my $i (1 .. 6) {
    $brood->sh(mallory => 'mkdir -p old/{1..40}/x; touch old/{1..40}/x/y; echo made > marker');
    defined(my $pid = fork) or die;
    if (!$pid) {
        open STDERR, '>', '/dev/null';
        exec Brood::build() . '/brood', 'ns', 'rm', '--socket', $brood->{socket}, 'mallory' or POSIX::_exit(99);
    }
    for (1 .. 4) {
        my $r = $brood->sh(mallory => 'n=$(ls old 2>/dev/null | wc -l); [[ -e marker ]] && m=made || m=none; echo "$m $n"', timeout => 10);
        push @odd, "$i: $r->{http} $r->{stdout}$r->{stderr}" unless $r->{stdout} =~ /^(?:made 40|none 0)$/;
    }
    waitpid $pid, 0;
}
is("@odd", '', 'runs beside removals see all of a namespace or nothing');
removed('in the end', 'mallory') if $brood->sh(mallory => 'true');
is($brood->sh(alice => 'cat note.txt')->{stdout}, "kept\n", 'alice has what she had');

# Left to a start: what a killed service was removing is removed without following anything either.
$brood->stop;
system "mkdir -p $brood->{fs_root}/.trash-9-9/d && ln -s $victim $brood->{fs_root}/.trash-9-9/l && ln -s $victim $brood->{fs_root}/.trash-9-9/d/l && chown -hR 1000:1000 $brood->{fs_root}/.trash-9-9; ln -s $victim $brood->{fs_root}/.trash-8-8; ln -s $victim $brood->{fs_root}/linked";
$brood->restart;
ok(until_true(10, sub { !-e "$brood->{fs_root}/.trash-9-9" }), 'a start removes what was left');
is(outside(), $before, 'and follows no link, not even one of root\'s');
isnt($brood->sh(linked => 'ls')->{http}, 200, 'a volume that is a link is no volume');
is(outside(), $before, 'nothing came of asking');

$brood->stop;
done_testing;
