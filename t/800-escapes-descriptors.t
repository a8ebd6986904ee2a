# SPDX-License-Identifier: Apache-2.0
# The attacker looks for descriptors it inherited: sockets of the zygote, the run's message, cgroup files, the volume root.
use lib 't/lib';
use Brood;

my $brood = Brood->start;
# Everything a run has, found by asking the kernel for each number rather than by listing a directory.
my $fds = sub { my ($ns, %more) = @_; $brood->sh($ns => q{perl -e 'for (0 .. 1100) { print "$_ " if syscall(72, $_, 1, 0) >= 0 }'}, %more)->{stdout} };
is($fds->('mallory'), '0 1 2 ', 'a program has three descriptors');
is($fds->('mallory', stdin => 'x' x 100_000), '0 1 2 ', 'with stdin given, too');
my $bash = 'for fd in {0..1100}; do [[ -e /proc/$$/fd/$fd ]] && printf "%s " $fd; done';
is($brood->sh(mallory => $bash)->{stdout}, '0 1 2 ', 'the shell itself as well');
is($brood->sh(mallory => 'exec 2>/dev/null; for fd in {3..300}; do : <&$fd && echo "open $fd"; done; echo none')->{stdout}, "none\n", 'none can be duplicated');
is($brood->sh(mallory => "exec 9</etc/passwd; $bash")->{stdout}, '0 1 2 9 ', 'control: one that is opened is seen');
$brood->sh(mallory => 'exec 77>/tmp/left; sleep 0.01');
is($fds->('mallory'), '0 1 2 ', 'nothing is left for the next run');
my $r = $brood->sh(mallory => 'for fd in 0 1 2; do readlink /proc/self/fd/$fd; done');
like($r->{stdout}, qr{\A/dev/null\npipe:\[\d+\]\npipe:\[\d+\]\n\z}, 'they are /dev/null and two pipes');
my ($out, $err) = $r->{stdout} =~ /\[(\d+)\]/g;
isnt($out, $err, 'two different ones');
# While it runs, two runs of two namespaces share no pipe, and none is shared with the service but its two.
my %mine = map { $_ => 1 } $out, $err;
my $conn = $brood->post(alice => 'touch fds-started; sleep 20');
$brood->wait_file('fds-started');
$r = $brood->sh(mallory => 'for fd in 0 1 2; do readlink /proc/self/fd/$fd; done');
my %alice;
for my $pid ($brood->pids('child')) {
    for my $link (glob "/proc/$pid/fd/*") {
        my $to = readlink $link or next;
        $alice{$1}++ if $to =~ /pipe:\[(\d+)\]/;
    }
}
cmp_ok(scalar keys %alice, '>=', 2, 'control: alice\'s pipes are seen from outside');
is_deeply([grep { $alice{$_} } $r->{stdout} =~ /\[(\d+)\]/g], [], 'mallory has none of them');
$conn->close;
# Memory of the run's message must not be reachable either: nothing shared, nothing writable that came from elsewhere.
my $shared = q{grep -E "^[0-9a-f-]+ ...s" /proc/%s/maps | grep -v " r--s .* /usr/"; echo end};
is($brood->sh(mallory => sprintf $shared, '$$')->{stdout}, "end\n", 'the shell shares no memory with the zygote');
is($brood->sh(mallory => sprintf $shared, 'self')->{stdout}, "end\n", 'nor does a program that is executed');

$brood->stop;
done_testing;
