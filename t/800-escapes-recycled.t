# SPDX-License-Identifier: Apache-2.0
# The attacker lives on in memory: runs that are clean take over the address space of the one before
# (runs.memory: recycled). Nothing of a run may reach the next that way: no byte, no code, no setting of the
# kernel's (SECURITY.md says what else can be seen). What could bring more than bytes must end the sharing: the next run is a fork again.
use lib 't/lib';
use Brood;
use MIME::Base64 qw(encode_base64);

my $brood = Brood->start;
my $tag = 0;

# [session, pid] of a run: a cast is in the session of its mould.
sub whose {
    my ($ns) = @_;
    return split ' ', $brood->sh($ns, 'read -ra s </proc/$$/stat; echo ${s[5]} $$')->{stdout};
}

# Runs an attack in a cast; returns its answer, and whether the next run was cast by the same mould.
sub in_cast {
    my ($ns, $cmd, %more) = @_;
    $brood->recycle($ns);
    my ($before) = whose($ns);
    my $got = $brood->sh($ns, $cmd, timeout => 20, %more);
    my ($after) = whose($ns);
    return ($got, $before == $after);
}

sub ends_sharing {
    my ($name, $cmd, $expect, %more) = @_;
    my $ns = 'ends-' . ++$tag;
    put($ns, %{delete $more{files}}) if $more{files};
    my ($got, $same) = in_cast($ns, $cmd, %more);
    like($got->{stdout} . $got->{stderr}, $expect, "$name: it was done");
    ok(!$same, "$name: the next run is not cast in that memory");
}

sub put {
    my ($ns, %files) = @_;
    for my $name (sort keys %files) {
        my $text = encode_base64($files{$name}, '');
        is($brood->sh($ns, "mkdir -p \$(dirname $name); base64 -d >$name <<<$text")->{exit_code}, 0, "$name is there");
    }
}

# ---- control: what is clean keeps the mould ------------------------------------------------------

my $clean = 'x=1; f() { echo $((x + 1)); }; f; exec cat /etc/hostname';
my ($got, $same) = in_cast(control => $clean);
is($got->{stdout}, "2\ncontrol\n", 'control: a clean run, with an exec at its end');
ok($same, 'control: the next one is cast by the same mould');

# ---- hands on the memory -------------------------------------------------------------------------

# A descriptor of /proc/self/mem outlives an exec: patch program text and the pristine copies.
my $patch = <<'PERL';
open my $f, '+<&=', 3 or die "no descriptor: $!"; my $n = 0;
for (@ARGV) {
    my ($s, $e) = /^([0-9a-f]+)-([0-9a-f]+) r/ or next; next if /vvar|vdso|vsyscall/; ($s, $e) = (hex $s, hex $e);
    sysseek $f, $s, 0; sysread($f, my $b, $e - $s) or next;
    for my $old ('command not found', '/usr/local/bin:/usr/bin:/bin') {
        for (my $o = -1; ($o = index $b, $old, $o + 1) >= 0;) { sysseek $f, $s + $o, 0; $n += !!syswrite $f, 'x' x length $old }
    }
}
print "patched $n\n";
PERL
ends_sharing('own memory kept open over an exec', 'mapfile -t m </proc/self/maps; exec perl p.pl "${m[@]}" 3<>/proc/self/mem',
    qr/^patched [1-9]/, files => {'p.pl' => $patch});
my $next = $brood->sh('ends-1', 'echo $PATH; nosuchcommand');
is($next->{stdout}, "/usr/local/bin:/usr/bin:/bin\n", 'and its PATH is the true one');
like($next->{stderr}, qr/command not found/, 'and its messages too');
ends_sharing('appending to a file of /proc', 'cd /proc/self; echo 0x7f >>coredump_filter && echo done', qr/done/);
like($brood->sh('ends-' . $tag, 'cat /proc/self/coredump_filter')->{stdout}, qr/^0*33$/, 'and the filter is the default');
# The kernel lets it be changed ten times a second on the whole machine.
ends_sharing('autogroup', 'until echo 19 2>/dev/null >>/proc/self/autogroup; do :; done; echo done', qr/done/);
ends_sharing('autogroup, by a program', q{exec bash -c 'until echo 19 2>/dev/null >>/proc/self/autogroup; do sleep 0.1; done; echo done'}, qr/done/);
ends_sharing('oom_score_adj', 'echo 500 >>/proc/self/oom_score_adj && echo done', qr/done/);
ends_sharing('a fork', '(:); echo done', qr/done/);
ends_sharing('a forked program', '/bin/true; echo done', qr/done/);
ends_sharing('a process substitution', 'read x < <(echo done); echo $x', qr/done/);
ends_sharing('a coprocess', 'coproc cat; echo done', qr/done/);
ends_sharing('an object loaded', 'enable -f /lib/x86_64-linux-gnu/libm.so.6 sin; echo done', qr/done/);

# ---- files of the tenant that the C library would parse there ------------------------------------

my %catalogue = ('' => "Content-Type: text/plain; charset=UTF-8\n", 'No such file or directory' => 'FROM THE TENANT');
my (@ids, @texts, $blob);
my $base = 28 + 16 * keys %catalogue;
$blob = '';
for (sort keys %catalogue) { push @ids, length, $base + length $blob; $blob .= "$_\0" }
for (sort keys %catalogue) { push @texts, length $catalogue{$_}, $base + length $blob; $blob .= "$catalogue{$_}\0" }
my $mo = pack('L7', 0x950412de, 0, 2, 28, 28 + 16, 0, 0) . pack('L*', @ids, @texts) . $blob;
my $mo_file = 'l/LC_MESSAGES/libc.mo';
for my $variant (['', 'by LANGUAGE'], ['read -r s _ </proc/self/statm; ulimit -v $((s * 4));', 'by LANGUAGE, with no room to map it']) {
    ends_sharing("a message catalogue $variant->[1]",
        "$variant->[0] export LANGUAGE=../../../../work/l; shopt -s gnu_errfmt execfail; exec /work/nonexistent",
        qr/FROM THE TENANT/, files => {$mo_file => $mo});
}
ends_sharing('TEXTDOMAINDIR', 'TEXTDOMAIN=t TEXTDOMAINDIR=/work; TEXTDOMAINDIR=/work; echo $"done"', qr/done/);
ends_sharing('a locale', 'LC_ALL=de_DE.UTF-8 2>/dev/null; echo done', qr/done/);
ends_sharing('a locale for one builtin', 'LC_ALL=C printf "%s\n" done', qr/done/);
my $zone = slurp('/usr/share/zoneinfo/Asia/Tokyo') // '';
SKIP: {
    skip 'no time zones on this host', 6 unless $zone =~ s/JST/EVL/g;
    ends_sharing('a time zone', "export TZ=/work/tz; printf '%(%Z)T\\n' 0", qr/EVL/, files => {tz => $zone});
    ends_sharing('a time zone behind a reference',
        q{declare -n r=TZ; printf -v r %s /work/tz; export TZ; shopt -s execfail gnu_errfmt; exec /nonexistent; HISTTIMEFORMAT='%Z '; set -o history; history -s x; history},
        qr/EVL/, files => {tz => $zone});
}
ends_sharing('a terminal description', 'TERMINFO=/work TERM=evil bind -p >/dev/null; echo done', qr/done/);

# ---- bytes ---------------------------------------------------------------------------------------

# Reads all of the memory that the shell had, over an exec, and counts a word it is given in two halves.
my $scan = <<'PERL';
my $word = shift() . shift(); my $n = 0; open my $f, '<&=', 3 or die;
for (@ARGV) {
    my ($s, $e) = /^([0-9a-f]+)-([0-9a-f]+) r/ or next; next if /vvar|vsyscall/; ($s, $e) = (hex $s, hex $e);
    sysseek $f, $s, 0; sysread($f, my $b, $e - $s) or next; $n++ while $b =~ /\Q$word\E/g;
}
print "$n\n";
PERL
my $look = 'mapfile -t m </proc/self/maps; exec perl s.pl WORD "${m[@]}" 3</proc/self/mem';
put(bytes => 's.pl' => $scan);
my %secret = (cmd => 'alpha-beta-gamma', env => 'delta-epsilon-zeta', stdin => 'eta-theta-iota', stack => 'kappa-lambda-mu');
sub halves { my $w = $secret{$_[0]}; return $look =~ s/WORD/substr($w, 0, 5) . ' ' . substr($w, 5)/er }
my $leave = "x=$secret{cmd}; f() { local y=\"\$1\"; if ((\$2)); then f \$y \$((\$2 - 1)); fi; }; f $secret{stack} 20; read -r z; "
    . "printf -v big %90000s \$z; declare -A m=([\$z]=\$E); echo \"\$E\" >/dev/null; [[ \$z == \$E* ]]; echo left";
($got, $same) = in_cast(bytes => $leave, env => {E => $secret{env}}, stdin => "$secret{stdin}\n");
is($got->{stdout}, "left\n", 'a run had secrets in its command, environment, stdin and stack');
ok($same, 'and was clean');
is($brood->sh(bytes => halves($_))->{stdout}, "0\n", "the next run finds nothing of it in its memory: $_") for sort keys %secret;
$brood->recycle('bytes');
is($brood->sh(bytes => "x=$secret{env}; " . halves('env'))->{stdout} >= 1, 1, 'control: what is there it would find');

my $dump = 'declare -p; declare -f; alias; trap -p; shopt; set +o; umask; ulimit -a; pwd; hash; jobs; enable -n; for f in /proc/$$/fd/*; do echo ${f##*/}; done; times';
my $stable = sub { $_[0] =~ s/^declare \S+ (?:BASHPID|EPOCH\w+|RANDOM|SRANDOM|SECONDS|PPID|_|BASH_EXECUTION_STRING)=.*\n//mgr =~ s/^\d+m.*\n//mgr };
$brood->recycle('state');
my $before = $stable->($brood->sh(state => $dump)->{stdout});
($got, $same) = in_cast(state => <<'SH');
x=1; export E=2; readonly R=3; declare -A A=([a]=b); declare -n N=x; f() { :; }; export -f f; alias a=b; shopt -s expand_aliases extglob
trap 'echo bye' EXIT; trap '' TERM INT; set -f -u -o pipefail; umask 0; ulimit -n 50; cd /tmp; hash -p /bin/true nosuch; enable -n let
exec 7</etc/passwd 8>/tmp/x; IFS=,; OPTIND=9; set -- a b c; unset PATH; PS4=evil; SECONDS=1000; RANDOM=7; POSIXLY_CORRECT=1; readonly PWD
SH
is($got->{stdout}, "bye\n", 'a run changed all state that a shell has');
ok($same, 'and was clean');
is($stable->($brood->sh(state => $dump)->{stdout}), $before, 'the next finds the state of a new shell');
my %numbers;
$brood->recycle('random');
$numbers{$_}++ for map { split ' ', $brood->sh(random => 'echo $RANDOM$RANDOM$RANDOM $SRANDOM')->{stdout} } 1 .. 40;
is(scalar keys %numbers, 80, 'casts of one mould draw different random numbers');

# ---- processes and limits ------------------------------------------------------------------------

($got, $same) = in_cast(daemon => q{exec perl -e 'fork and exit; setpgrp; fork and exit; sleep 60'});
ok(!$same, 'a clean shell whose program left a daemon: its mould is not used again');
is($brood->sh(daemon => 'set -- /proc/[0-9]*; echo $#')->{stdout}, "1\n", 'and the daemon is gone');
($got) = in_cast(signals => 'read -ra s </proc/$$/stat; kill -CONT ${s[5]}; kill -TERM ${s[5]}; kill -KILL ${s[5]}; kill -STOP ${s[5]}; kill -HUP -${s[5]}; echo over');
is($got->{stdout}, "over\n", 'a run signals the mould that cast it');
is($brood->sh(signals => 'echo alive')->{stdout}, "alive\n", 'which goes on');
($got, $same) = in_cast(mould => 'read -ra s </proc/$$/stat; for f in mem maps environ fd/0 status stat cwd; do read -r x 2>/dev/null </proc/${s[5]}/$f && echo $f; done; echo over');
is($got->{stdout}, "over\n", 'a run cannot see it either');

($got) = in_cast(bomb => 'x=aaaaaaaaaaaaaaaa; while :; do x=$x$x; done');
is($got->{reason}, 'oom', 'memory that a cast takes is charged to its namespace');
is($brood->sh(bomb => 'echo alive')->{stdout}, "alive\n", 'which lives on');
($got) = in_cast(loop => 'while :; do :; done', timeout => 0.3);
is($got->{reason}, 'timeout', 'a cast ends at its deadline');
($got) = in_cast(deep => 'f() { f; }; f');
is($got->{signal}, 'SEGV', 'a cast that overflows its stack');
is($brood->sh(deep => 'echo alive')->{stdout}, "alive\n", 'does not take the next along');

my $big = 'for ((i = 0; i < 800; i++)); do printf -v b[$i] %60000s x; done; echo ${#b[@]}';
($got) = in_cast(peak => $big);
cmp_ok($got->{max_rss_kb}, '>', 40_000, 'a cast took 48 MB');
$brood->recycle('peak');
my $large = $brood->sh(peak => $big);
$next = $brood->sh(peak => ':');
cmp_ok($next->{max_rss_kb}, '<', 6_000, "the next one is not told so: $next->{max_rss_kb} KiB after $large->{max_rss_kb}");

# ---- the other way -------------------------------------------------------------------------------

$brood->stop;
$brood = Brood->start('runs-memory' => 'fresh');
my @own = map { my ($session, $pid) = whose('fresh'); $session == $pid } 1 .. 30;
is(scalar(grep { !$_ } @own), 0, 'runs.memory: fresh: each run is a fork');
$brood->stop;
done_testing;
