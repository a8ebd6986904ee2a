# SPDX-License-Identifier: Apache-2.0
# The attacker wants the service itself: its sockets, its memory, its programs, its configuration, its log.
use lib 't/lib';
use Brood;
use Brood::Attack;

my $brood = Brood->start(config => "log:\n  level: debug\n");
my @ours = $brood->processes;
my $got = attack($brood, mallory => 'my @pids = (' . join(',', map { $_->{pid} } @ours) . "); my \$dir = '$brood->{dir}';" . <<'PERL');
for my $pid (@pids) {
    try("$_ $pid" => sub { $pid != $$ && peek("/proc/$pid/$_") }) for qw(mem maps environ cmdline exe);
    try("fd $pid" => sub { $pid != $$ && opendir my $d, "/proc/$pid/fd" });
    try("root $pid" => sub { $pid != $$ && opendir my $d, "/proc/$pid/root/" });
}
for my $path ('/run/brood', '/run/brood/brood.sock', '/var/run/brood/brood.sock', $dir, "$dir/brood.sock", "$dir/http.sock", "$dir/log", "$dir/brood.yaml", "$dir/ns", '/etc/brood', '/etc/brood/brood.yaml', '/etc/shadow', '/root/.ssh', '/proc/1/cwd/.env') {
    try("path $path" => sub { -e $path });
}
for my $path ('/run/brood/brood.sock', "$dir/brood.sock", "$dir/http.sock") {
    socket my $s, PF_UNIX, SOCK_STREAM, 0; socket my $p, PF_UNIX, 5, 0;
    try("connect $path" => sub { connect $s, pack_sockaddr_un($path) });
    try("seqpacket $path" => sub { connect $p, pack_sockaddr_un($path) });
}
PERL
my @tried = grep { / / } keys %$got;
cmp_ok(scalar @tried, '>=', 7 * 4 + 20, scalar(@tried) . ' ways were tried');
# A number that happens to be pid 1 of the namespace is refused as well; nothing is 'done'.
is(join(' ', grep { $got->{$_}[0] ne 'refused' } sort @tried), '', 'none leads to the service');
ok(-e "$brood->{dir}/brood.sock" && -e "$brood->{dir}/brood.yaml", 'control: outside these files are there');
my $r = $brood->sh(mallory => 'find / -name "brood*" 2>/dev/null | grep -v -e ^/work -e ^/usr/local/lib/brood-languages; env | grep -i brood; cat /proc/self/environ /proc/self/cmdline | tr "\0" "\n" | grep -i brood; echo end');
is($r->{stdout}, "end\n", 'nothing inside bears its name: no program, no variable');
is($brood->sh(mallory => 'ls -A /run')->{stdout}, "empty\n", '/run is empty');
is($brood->sh(mallory => 'ls -A /run/empty')->{stdout}, '', 'quite');

# The zygote is what a run is a copy of. What it holds in memory must not name others or the host's secrets.
$brood->sh(alice => 'echo the-secret-of-alice', env => {SECRET => 'the-secret-of-alice'});
$brood->sh(mallory => 'true', env => {EARLIER => 'what-mallory-said-before'});
$r = $brood->sh(mallory => '{ declare -p; set; history; env; fc -l; tr "\0" "\n" < /proc/$$/environ; } 2>/dev/null | grep -c -e EARLIE[R] -e SECRE[T] -e mallory-sai[d]');
is($r->{stdout}, "0\n", 'nothing of earlier runs is left in the shell');
is($brood->sh(mallory => 'declare -p | grep -c EARLIE[R]', env => {EARLIER => 'x'})->{stdout}, "1\n", 'control: one would be seen');
# Its memory, too: what earlier runs said was said in processes that are gone.
$r = $brood->sh(mallory => 'exec 3</proc/$$/maps; perl -e \'$p = getppid; open M, "<", "/proc/$p/maps" or die; open R, "<", "/proc/$p/mem" or die "mem: $!"; $n = 0; $k = 0;'
      . ' while (<M>) { /^(\w+)-(\w+) rw/ or next; $l = hex($2) - hex $1; sysseek R, hex $1, 0; sysread R, $b, $l or next; $k++; $n++ while $b =~ /what-mallory-said-befo[r]e|the-secret-of-alic[e]/g } print "$k $n"\'; true');
my ($areas, $hits) = split ' ', $r->{stdout};
cmp_ok($areas // 0, '>', 3, 'control: the shell\'s memory was read (' . ($areas // $r->{stderr}) . ' areas)');
is($hits, 0, 'and holds nothing of an earlier run or of alice');
for my $role (qw(engine frontend)) {
    my ($pid) = $brood->pids($role);
    my $status = slurp("/proc/$pid/status");
    my ($eff) = $status =~ /^CapEff:\s+(\S+)/m;
    is($eff =~ /^0+$/ ? 0 : $eff, 0, "the $role has no capability");
    like($status, qr/^NoNewPrivs:\s+1/m, 'and gains none');
    isnt((split ' ', ($status =~ /^Uid:\s+(.*)/m)[0])[0], 0, 'nor is it root');
}
my ($frontend) = $brood->pids('frontend');
like(slurp("/proc/$frontend/status"), qr/^Seccomp:\s+2/m, 'the frontend is behind a seccomp filter');
my ($priv) = $brood->pids('priv');
my ($eff) = slurp("/proc/$priv/status") =~ /^CapEff:\s+(\S+)/m;
is(hex($eff) & ~(1 << 21 | 1 << 7 | 1 << 6 | 1 << 19 | 1 << 5 | 1 | 1 << 27 | 1 << 8 | 1 << 1), 0, "priv holds only what SECURITY.md lists ($eff)");

$brood->stop;
done_testing;
