# SPDX-License-Identifier: Apache-2.0
# The attacker fills the room in which the kernel keeps machine code of packet and seccomp filters. It is one for the whole
# machine (net.core.bpf_jit_limit): once it is full, no zygote gets its seccomp filter any more and no namespace begins.
use lib 't/lib';
use Brood;
use Brood::Attack;

require_layer('root', 'cgroup');
my $brood = Brood->start('namespaces-spares' => 1);
my $attack = <<'PERL';
socket my $s, PF_INET, SOCK_DGRAM, 0 or die;
my $code = pack('SCCL', 0x04, 0, 0, 0x12345678) x 4095 . pack('SCCL', 0x06, 0, 0, 1);
my $prog = pack('SxxxxxxP', 4096, $code);
sub attach { my ($name, $option, $high) = @_; call($name => 54, fileno $s, 1 | ($high // 0), $option, $prog, length $prog) }
attach(filter => 26);
attach(reuseport => 51);
PERL
my $got = attack($brood, mallory => $attack . <<'PERL');
attach('high bits' => 26, 1 << 32);
attach('bpf' => 50);
attach('reuseport bpf' => 52);
my $n = 0;
for (1 .. 500) { socket my $more, PF_INET, SOCK_DGRAM, 0 or last; push @main::keep, $more; $n++ if setsockopt $more, 1, 26, $prog }
print "many\tdone\t$n\n";
try('option' => sub { setsockopt $s, SOL_SOCKET, SO_REUSEADDR, 1 });
PERL
refused($got, $_, qr/^EPERM$/) for 'filter', 'reuseport', 'high bits', 'bpf', 'reuseport bpf';
is(said($got, 'many'), 0, 'none of 500 sockets carries a filter of 4,096 instructions');
done($got, 'option', 'control: other options of a socket can be set');
control(on_host($attack), 'filter');

# A process may still restrict itself (file(1) and man(1) do), which the number of processes bounds.
my $seccomp = <<'PERL';
my $code = pack('SCCL', 0x04, 0, 0, 1) x 4094 . pack('SCCL', 0x06, 0, 0, 0x7fff0000) x 2;
my $prog = pack('SxxxxxxP', 4096, $code);
my $n = 0;
for (1 .. 20) { last if syscall(317, 1, 0, $prog) < 0; $n++ }
print "filters\tdone\t$n\n";
PERL
my @held = map { $brood->post("jit-$_" => 'exec perl -', timeout => 30, stdin => <<"PERL") } 1 .. 3;
pipe my \$r, my \$w;
for (1 .. 30) { next if fork; { $seccomp } syswrite \$w, 'x'; select undef, undef, undef, 0.05 until -e 'done'; exit }
sysread \$r, my \$x, 1 for 1 .. 30;
open my \$f, '>', 'full'; close \$f; select undef, undef, undef, 0.02 until -e 'done'; 1 while wait > 0;
PERL
for (1 .. 3) { ok(until_true(20, sub { -e "$brood->{fs_root}/jit-$_/full" }), "namespace $_ has 30 processes with all the filters they may have") }
is($brood->sh("new-$_" => 'grep ^Seccomp: /proc/self/status')->{stdout}, "Seccomp:\t2\n", "new namespace $_ begins behind a filter") for 1 .. 4;
spew("$brood->{fs_root}/jit-$_/done") for 1 .. 3;
like(join('', map { $brood->result($_, 20)->{stdout} } @held), qr/filters\tdone\t[1-9]/, 'control: filters were installed');

$brood->stop;
done_testing;
