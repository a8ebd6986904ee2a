# SPDX-License-Identifier: Apache-2.0
# What our own code did in a run's memory before it began - files placed, arguments set, outputs emptied - must not reach the next run
# that is cast in that memory; and a run that worked on files leaves no such memory at all. The attacker also owns all that our code
# meets on the way: directories, links, modes, sizes.
use lib 't/lib';
use Brood;
use IPC::Open2;
use Mojo::JSON qw(decode_json encode_json);

require_layer('root', 'cgroup', 'python3');
my $brood = Brood->start;
my ($LIST, $PUT) = (4, 3);

sub wire {
    my $pid = open2(my $out, my $in, 'python3', Brood::root() . '/t/lib/wire.py', $brood->{socket});
    print $in encode_json([map { {ns => 'a', %$_} } @_]);
    close $in;
    my $text = do { local $/; <$out> };
    waitpid $pid, 0;
    return @{decode_json($text || '[]')};
}
my $session = 'read -ra s </proc/$$/stat; echo ${s[5]}';

# ---- bytes that a run was given ------------------------------------------------------------------

# All memory of the shell over an exec, as t/800-escapes-recycled reads it; the word comes in two halves.
my $scan = <<'PERL';
my $word = shift() . shift(); my $n = 0; open my $f, '<&=', 3 or die;
for (@ARGV) {
    my ($s, $e) = /^([0-9a-f]+)-([0-9a-f]+) r/ or next; next if /vvar|vsyscall/; ($s, $e) = (hex $s, hex $e);
    sysseek $f, $s, 0; sysread($f, my $b, $e - $s) or next; $n++ while $b =~ /\Q$word\E/g;
}
print "$n\n";
PERL
wire({cmd => ':', places => [['s.pl', $scan]]});
my %secret = (placed => 'alpha-beta-gamma', argument => 'delta-epsilon-zeta', path => 'eta-theta-iota');
my $look = sub { my ($w) = @_; 'mapfile -t m </proc/self/maps; exec perl s.pl ' . substr($w, 0, 5) . ' ' . substr($w, 5) . ' "${m[@]}" 3</proc/self/mem' };
$brood->recycle('a');
my ($before) = $brood->sh(a => $session)->{stdout};
wire({cmd => 'echo "$1" >/dev/null; x=$1', args => [$secret{argument}], work => [1, 1],
    places => [['dir/file', $secret{placed} x 2000], ["dir/$secret{path}", 'x']]});
is($brood->sh(a => $session)->{stdout}, $before, 'a run that was given files and arguments is clean: the next is cast in its memory');
is($brood->sh(a => $look->($secret{$_}))->{stdout}, "0\n", "where nothing is left of what it was given: $_") for sort keys %secret;
$brood->recycle('a');
my ($got) = wire({cmd => $look->($secret{argument}), args => [$secret{argument}]});
cmp_ok($got->{stdout}, '>=', 1, 'control: what is there it would find');

$brood->recycle('a');
($before) = $brood->sh(a => $session)->{stdout};
wire({kind => 2, files => {op => $LIST, path => '', flags => 1}});
isnt($brood->sh(a => $session)->{stdout}, $before, 'a run that worked on files is the last one of its memory');

# ---- what a tenant has laid out ------------------------------------------------------------------

my %work = (work => [100, 1 << 20]);
for (['a link to the image', 'rm -rf outputs; ln -s /usr outputs'], ['a link to /proc', 'rm -rf outputs; ln -s /proc/self/root outputs'],
    ['a link to itself', 'rm -rf outputs; ln -s outputs outputs'], ['a file', 'rm -rf outputs; >outputs'],
    ['a socket', q{rm -rf outputs; perl -MIO::Socket::UNIX -e 'IO::Socket::UNIX->new(Local => "outputs", Listen => 1)'}],
    ['a directory without rights', 'mkdir -p outputs/a/b; >outputs/a/b/c; chmod 0 outputs/a/b outputs/a outputs'],
    ['twenty thousand names', q{perl -e 'chdir "outputs"; for (1 .. 20000) { open F, ">$_"; close F }'}],
    ['names of any bytes', q{perl -e 'chdir "outputs"; for (1 .. 255) { my $c = chr; next if $c eq "/" || $c eq "."; open F, ">", "$c$c"; close F }'}],
    ['a sparse terabyte', q{perl -e 'open F, ">outputs/sparse"; truncate F, 900 << 20'}]) {
    my ($what, $cmd) = @$_;
    my ($trap, $next) = wire({cmd => $cmd, %work}, {cmd => 'stat -c "%F %a %u" outputs; ls -A outputs | wc -l; ls /usr/bin/env', %work});
    is($next->{stdout}, "directory 755 1000\n0\n/usr/bin/env\n", "$what where outputs were: the next run finds them made anew");
    ok(!grep({ ($_->{content} // '') =~ /root:|ELF/ } @{$trap->{artifacts} // []}), "$what: nothing of the image came out");
}
my ($growing) = wire({cmd => 'echo one >outputs/f; (trap "" TERM HUP; while :; do echo more >>outputs/f; done) & disown; sleep 0.05', %work, hold => 0.2});
my ($size) = map { $_->{size} } grep { !$_->{last} } @{$growing->{artifacts}};
is(($brood->sh(a => 'stat -c %s outputs/f')->{stdout} // '') + 0, $size, 'a file that a process left behind goes on writing to is as long as was told');
($got) = wire({cmd => 'echo ran', places => [['f', 'x' x 5000]]}) ;
$brood->sh(a => 'mkdir shut; chmod 0 shut');
($got) = wire({cmd => 'echo ran', places => [['shut/f', 'x']]});
is($got->{stdout}, '', 'no room for a placed file: the command does not run');
isnt($got->{outcome}, 0, "and it is told: $got->{text}");
is($brood->sh(a => 'rmdir shut; echo alive')->{stdout}, "alive\n", 'the next one does');

# A thousand of our own temporary names, and a home that is full of them.
wire({cmd => 'for ((i = 0; i < 120; i++)); do >.put-$i; done'});
($got) = wire({kind => 2, files => {op => $PUT, path => 'x'}, stdin => 'x'});
is($got->{answers}[-1]{status}, 17, 'names that a put would use are all taken: it says so');
$brood->stop;
done_testing;
