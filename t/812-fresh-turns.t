# SPDX-License-Identifier: Apache-2.0
# Runs without a namespace cost nothing to ask for. A key that asks for more of them than the machine has places, and
# for more than the queue holds, keeps no other key out.
use lib 't/lib';
use Brood;
use Digest::SHA qw(sha256_hex);
use Time::HiRes qw(time);

my %token = map { ($_ => "brood_turns-test-$_") } qw(ann bob);
my $dir = Brood::_temp_dir();
spew("$dir/keys.yaml", "keys:\n" . join '', map { "  - {label: $_, sha256: " . sha256_hex($token{$_}) . ", scopes: [execute, runs], namespaces: $_}\n" } sort keys %token);
my $brood = Brood->start(dir => $dir, 'key-file' => "$dir/keys.yaml", 'namespaces-active-max' => 6, 'namespaces-spares' => 2,
    'runs-max-wait' => '60s', 'v1-runs-timeout-max' => '60s', 'runs-drain' => '0s', 'http-threads' => 1);

sub request_of {
    my ($who, $body, %headers) = @_;
    return Brood::Conn->request(POST => '/v1/runs', body => $body, headers => {Authorization => "Bearer $token{$who}", %headers});
}
sub run {
    my ($who, %body) = @_;
    my $conn = $brood->connect;
    $conn->put(request_of($who, {cmd => 'echo hi', %body}));
    my $res = $conn->get(15) // {status => 0};
    return join ' ', $res->{status}, ref $res->{json} eq 'HASH' ? $res->{json}{stdout} // $res->{json}{code} // '' : '';
}

# ann: many that last, whose client does not wait.
sub flood {
    my ($count) = @_;
    my ($conn, $accepted) = ($brood->connect, 0);
    my $bytes = request_of(ann => {cmd => 'sleep 50', limits => {timeout_ms => 50000}}, Prefer => 'respond-async');
    for (1 .. $count / 50) { # pipelined, fifty at a time
        $conn->put($bytes x 50);
        $accepted += (($conn->get(20) // {status => 0})->{status} == 202) for 1 .. 50;
    }
    return $accepted;
}

is(run('bob'), "200 hi\n", 'bob is served');
is(flood(100), 100, 'ann asks for a hundred runs of 50 s each');
my $began = time;
is(run('bob'), "200 hi\n", 'bob has a run without a namespace all the same');
is(run('bob', namespace_id => 'bob'), "200 hi\n", 'and one in his namespace');
is(run('ann', namespace_id => 'ann'), "200 hi\n", 'as ann has in hers');
cmp_ok(time - $began, '<', 10, 'without waiting for one of the others to end');

my $more = flood(4000);
cmp_ok($more, '<', 4000, "some of 4,000 more of ann are refused, before they are promised ($more are not)");
is(run('bob'), "200 hi\n", 'none of bob');
$brood->signal('KILL');
ok($brood->wait_exit(10), 'enough');

# Each of them may have `limits.pids` processes, and the machine has no more than kernel.pid_max.
my $most = int(slurp('/proc/sys/kernel/pid_max') / 2 / 8192) || 1;
SKIP: {
    skip 'the machine may have too many processes', 1 if $most > 20;
    $brood = Brood->start(dir => Brood::_temp_dir(), 'limits-pids' => 8192, 'runs-drain' => '0s', 'runs-max-wait' => '60s');
    my @open = map { my $c = $brood->connect; $c->put(Brood::Conn->request(POST => '/v1/runs', body => {cmd => 'sleep 2; echo $HOSTNAME'})); $c } 1 .. $most + 2;
    my @ended = map { my $r = $_->get(40); $r && $r->{json} ? $r->{json}{queue_ms} : undef } @open;
    is(scalar(grep { defined && $_ > 1500 } @ended), 2, "with 8192 processes each, $most run at once and two wait for them") or diag(explain(\@ended));
    $brood->stop;
}
done_testing;
