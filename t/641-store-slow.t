# SPDX-License-Identifier: Apache-2.0
# An artifact takes the store longer than the 10 s that collecting may take (strace holds up a call of its thread), and who collects
# has gone: the run is stored when its artifact is, not before.
use lib 't/lib';
use Brood;
use POSIX ();

require_layer('root', 'strace');
my $brood = Brood->start('languages-dir' => '');
my ($pid) = $brood->pids('frontend');
my ($thread) = grep { $_ != $pid } map { m{(\d+)\z} } glob "/proc/$pid/task/*";
my $zygote = $brood->zygote_of('c');
defined(my $tracer = fork) or die;
if (!$tracer) {
    open STDERR, '>', "$brood->{dir}/strace.err";
    exec 'strace', '-o', "$brood->{dir}/strace", '-p', $thread, '-e', 'trace=fsync,futex', '-e', 'inject=fsync:delay_enter=11000000:when=1' or POSIX::_exit(9);
}
until_true(10, sub { (slurp("/proc/$thread/status") // 'TracerPid: 1') =~ /^TracerPid:\s+[1-9]/m }) or fail('strace attaches');
my $conn = $brood->connect;
$conn->put(Brood::Conn->request(POST => '/v1/runs', body => {cmd => "mkdir -p /work/outputs; echo kept >/work/outputs/kept", namespace_id => 'c'}));
ok(until_true(10, sub { glob "$brood->{fs_root}.state/objects/.new-*" }), 'a file is being stored');
kill KILL => $zygote;
my $res = $conn->get(40);
is($res->{status}, 200, 'it is stored') or diag explain $res;
is_deeply([map { $_->{path} // $_->{name} } @{$res->{json}{artifacts}}], ['kept'], 'with its artifact') or diag explain $res->{json};
kill TERM => $tracer;
waitpid $tracer, 0;
$brood->stop;
done_testing;
