# SPDX-License-Identifier: Apache-2.0
# A thousand clients that watch twenty slow runs, over two threads: each sees everything, and the frontend stays small.
use lib 't/lib';
use Brood;
use Brood::Events;
use Time::HiRes qw(time);

use constant {RUNS => 20, READERS => 1000, TICKS => 12};

my $brood = Brood->start('http-threads' => 2, 'streams-heartbeat' => '1s');
my ($frontend) = $brood->pids('frontend');
sub resident_kib { return (slurp("/proc/$frontend/status") // '') =~ /^VmRSS:\s+(\d+) kB/m ? $1 : 0 }

my @ids = map {
    my $cmd = 'echo begun; until [ -e go ]; do sleep 0.1; done; for ((i = 0; i < ' . TICKS . '; i++)); do echo tick $i; sleep 0.25; done';
    $brood->request(POST => '/v1/runs', body => {cmd => $cmd, namespace_id => "slow$_", detach => \1, limits => {timeout_ms => 10000}})->{json}{id}
} 1 .. RUNS;
is(scalar(grep { defined } @ids), RUNS, 'slow runs');
my $before = resident_kib();
my @readers = map { Brood::Events->open($brood, GET => "/v1/runs/$ids[$_ % RUNS]/events", later => 1, ndjson => $_ % 2) } 0 .. READERS - 1;
is(scalar(grep { $_ && $_->head(30) && $_->{status} == 200 } @readers), READERS, 'a thousand readers');
for my $ns (1 .. RUNS) { spew($brood->find("slow$ns") . '/go', '') }
my ($most, $whole) = (0, 0);
for my $i (0 .. $#readers) {
    my @events = $readers[$i]->rest(40);
    $whole++ if @events && $events[-1]{event} eq 'result'
      && Brood::Events::text_of(stdout => @events) eq join '', "begun\n", map { "tick $_\n" } 0 .. TICKS - 1;
    diag(map { "$_->{event}: " . Mojo::JSON::encode_json($_->{data}) . "\n" } @events) if $i == 0 && !$whole;
    my $now = resident_kib();
    $most = $now if $now > $most;
}
is($whole, READERS, 'each has every line, and the result');
SKIP: {
    skip 'sanitized memory', 1 if Brood::build() =~ /asan/;
    cmp_ok($most, '<', 64 * 1024, sprintf 'the frontend held %d KiB at most, %d before', $most, $before);
}
@readers = ();
ok(until_true(10, sub { $brood->request(GET => '/health')->{status} == 200 }), 'and it is well');
$brood->stop;
done_testing;
