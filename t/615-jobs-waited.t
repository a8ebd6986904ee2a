# SPDX-License-Identifier: Apache-2.0
# A job that waited is as one that did not: it has its key's limits and is that key's use, its age counts from its end, and one
# that was cancelled is not kept waiting for its turn; nor is one begun more often than it may be.
use lib 't/lib';
use Brood;
use Brood::Jobs;
use Digest::SHA qw(sha256_hex);

subtest 'the limits of a key' => sub {
    my $dir = Brood::_temp_dir();
    my ($token, $admin) = map { "brood_of-$_-" . sha256_hex(rand() . $$) } qw(short all);
    my @auth = (headers => {Authorization => "Bearer $token"});
    spew("$dir/keys.yaml", "keys:\n  - label: short\n    sha256: " . sha256_hex($token) . "\n    scopes: [runs]\n    limits: {timeout_ms: 500}\n  - label: all\n    sha256: " . sha256_hex($admin) . "\n    scopes: [admin]\n");
    my $brood = Brood->start(dir => $dir, 'key-file' => "$dir/keys.yaml", 'languages-dir' => '', 'jobs-concurrency' => 1, 'runs-queue-max' => 1);
    my @long = map { submit($brood, 'sleep 50; echo done', @auth)->{executionId} } 1 .. 2;
    push @long, map { submit($brood, 'sleep 50; echo done', namespace_id => 'alice', @auth)->{executionId} } 1 .. 2;
    my $never = submit($brood, 'true', @auth)->{executionId};
    cancel($brood, $never, @auth);
    is_deeply([map { ended($brood, $_, @auth)->{status} } @long], [('timeout') x 4], 'hold for jobs that waited, too');
    my $used;
    my $all = sub { $used = {map { $_->{key} => "$_->{runs} runs, $_->{jobs} jobs" } @{$brood->request(GET => '/v1/usage', headers => {Authorization => "Bearer $admin"})->{json}{keys} // []}}; ($used->{short} // '') eq '4 runs, 5 jobs' };
    ok(until_true(10, $all) && !exists $used->{''}, 'and all is what that key used') or diag(explain($used));
    $brood->stop;
};

subtest 'age' => sub {
    my $brood = Brood->start('languages-dir' => '', 'store-age-s' => 3);
    my $id = submit($brood, 'echo there; sleep 3.5')->{executionId};
    is(ended($brood, $id)->{status}, 'completed', 'counts from the end');
    is(output($brood, $id), "there\n", 'with its output');
    $brood->stop;
};

subtest 'cancelled before a start' => sub {
    my $brood = Brood->start('languages-dir' => '', 'jobs-concurrency' => 1, 'runs-drain-s' => 1);
    my ($stuck, $gone, $waits) = map { submit($brood, 'sleep 100', timeout => 200)->{executionId} } 1 .. 3;
    ok(until_true(10, sub { status($brood, $stuck)->{status} eq 'running' }), 'one runs, two wait');
    $brood->stop;
    # As by a DELETE that was answered just before a kill.
    is(`sqlite3 $brood->{fs_root}.state/store.db "update jobs set cancelled = 1 where id = '$gone'" 2>&1`, '', 'that one is cancelled');
    is(`sqlite3 $brood->{fs_root}.state/store.db "update jobs set state = 1, started_ms = 1 where id = '$waits'" 2>&1`, '', 'the other one was claimed, which was taken back');
    $brood->restart;
    my $s = ended($brood, $gone);
    is_deeply([@$s{qw(status reason startedAt)}], ['failed', 'cancelled', undef], 'it has ended') or diag explain $s;
    ok(until_true(10, sub { status($brood, $stuck)->{status} eq 'running' }), 'before its turn');
    is_deeply([@{status($brood, $waits)}{qw(status startedAt)}], ['queued', undef], 'what has not begun is queued');
    cancel($brood, $_) for $waits, $stuck;
    $brood->stop;
};
subtest 'attempts' => sub {
    my $brood = Brood->start('languages-dir' => '', 'jobs-attempts-max' => 2);
    my $id = submit($brood, 'echo begun; sleep 100', timeout => 200)->{executionId};
    for my $n (1 .. 2) {
        my $s;
        ok(until_true(20, sub { $s = status($brood, $id); ($s->{status} // '') eq 'running' && $s->{attempts} == $n }), "attempt $n runs") or diag explain $s;
        kill KILL => $brood->pids('frontend');
        until_true(10, sub { my $r = $brood->request(GET => '/ready'); $r && $r->{status} == 200 });
    }
    my $s = ended($brood, $id);
    is_deeply([@$s{qw(status reason attempts error)}], ['failed', 'internal', 2, 'the worker died during each of 2 attempts'], 'there is no third one') or diag explain $s;

    # A zygote that dies takes one attempt along, not the job.
    $id = submit($brood, 'echo $$ >>/work/begun; [ $(wc -l </work/begun) -gt 1 ] || sleep 100; echo twice', namespace_id => 'lost', timeout => 200)->{executionId};
    ok($brood->wait_file("begun", 20), 'another one has begun');
    kill KILL => $brood->pids('zygote');
    $s = ended($brood, $id);
    is_deeply([@$s{qw(status attempts)}], ['completed', 2], 'its second attempt ends') or diag explain $s;
    like(output($brood, $id), qr/\Atwice\n\z/, 'with the output of that one alone');

    # What a DELETE has promised a kill does not take back.
    my ($runs, $waits) = map { submit($brood, 'sleep 100', namespace_id => 'order', timeout => 200)->{executionId} } 1 .. 2;
    my $res = $brood->request(DELETE => "/v1/jobs/$_") for $waits, $runs;
    kill KILL => $brood->pids('frontend');
    until_true(10, sub { my $r = $brood->request(GET => '/ready'); $r && $r->{status} == 200 });
    is_deeply([map { ended($brood, $_)->{reason} } $runs, $waits], ['cancelled', 'cancelled'], 'cancelled is cancelled, whatever dies then');
    $brood->stop;
};
done_testing;
