# SPDX-License-Identifier: Apache-2.0
# The queue: a language that is stuck holds up no other; priorities; keys take turns; positions; bounds and what a
# client is told at them; a queued job that is cancelled never runs; what is queued outlives a stop.
use lib 't/lib';
use Brood;
use Brood::Jobs;
use Digest::SHA qw(sha256_hex);
use Mojo::JSON qw(encode_json);

# Holds all places of bash with jobs that end when they are cancelled.
sub stuck { my ($brood, $n, %more) = @_; my @ids = map { submit($brood, 'sleep 100', timeout => 200, %more)->{executionId} } 1 .. $n; until_true(10, sub { !grep { status($brood, $_, %more)->{status} ne 'running' } @ids }) or die 'they do not begin'; return @ids }
sub positions { my ($brood, @ids) = @_; return [map { status($brood, $_)->{queuePosition} } @ids] }

SKIP: {
    skip 'no perl language', 1 unless -x '/usr/bin/perl';
    subtest 'a stuck language' => sub {
        my $brood = Brood->start('languages-dir' => '', 'jobs-concurrency' => 2);
        my @stuck = stuck($brood, 2);
        my @wait = map { submit($brood, "echo $_")->{executionId} } 1 .. 3;
        is_deeply([map { status($brood, $_)->{status} } @wait], [('queued') x 3], 'others of it wait');
        is_deeply(positions($brood, @wait), [1, 2, 3], 'in this order');
        is(ended($brood, submit($brood, 'print "hi\n"', language => 'perl')->{executionId})->{stdoutPreview}, "hi\n", 'another language does not');
        is(ended($brood, submit($brood, 'echo hi', namespace_id => 'alice')->{executionId})->{stdoutPreview}, "hi\n", 'nor does a namespace');
        my $gone = cancel($brood, $wait[0]);
        is($gone->{http}, 202, 'one that waits is cancelled');
        my $s = ended($brood, $wait[0]);
        is_deeply([@$s{qw(status reason attempts startedAt)}], ['failed', 'cancelled', 0, undef], 'it never began') or diag(encode_json($s));
        is_deeply(positions($brood, @wait[1, 2]), [1, 2], 'the others move up');
        cancel($brood, $stuck[0]);
        is(ended($brood, $_)->{status}, 'completed', 'and run when there is a place') for @wait[1, 2];
        cancel($brood, $stuck[1]);
        $brood->stop;
    };
}

subtest 'a namespace' => sub {
    my $brood = Brood->start('languages-dir' => '', 'runs-queue-max' => 3);
    my ($stuck) = stuck($brood, 1, namespace_id => 'alice');
    my @answers = map { submit($brood, "echo $_", namespace_id => 'alice') } 1 .. 5;
    my @ids = map { $_->{executionId} } @answers;
    is_deeply([map { $_->{queuePosition} } @answers], [1 .. 5], 'its jobs are told how many go before them, in the engine or not');
    is_deeply(positions($brood, $stuck, @ids), [undef, 1 .. 5], 'and can ask');
    my $s = status($brood, $ids[4]);
    ok(until_true(10, sub { status($brood, $ids[4])->{queuedMs} > $s->{queuedMs} + 50 }), 'queuedMs grows');
    cancel($brood, $stuck);
    $s = ended($brood, $ids[4]);
    my ($from, $to) = map { /:(\d\d)\.(\d{3})Z/ ? $1 * 1000 + $2 : 'none' } @$s{qw(createdAt startedAt)};
    is($s->{queuedMs}, ($to - $from) % 60_000, 'until it begins');
    is($s->{queuePosition}, undef, 'then it has no place');
    $brood->stop;
};

subtest 'priorities' => sub {
    my $brood = Brood->start('languages-dir' => '', 'jobs-concurrency' => 1);
    my ($stuck) = stuck($brood, 1);
    my %ids = map { my $p = $_; my $n = 0; map { ("$p-" . $n++ => submit($brood, "echo $p", priority => $p)->{executionId}) } 1 .. 2 } 5, 0, 9;
    is_deeply(positions($brood, @ids{qw(9-0 9-1 5-0 5-1 0-0 0-1)}), [1 .. 6], 'positions know');
    cancel($brood, $stuck);
    my %began = map { $_ => ended($brood, $ids{$_}) } keys %ids;
    my @order = sort { $began{$a}{startedAt} cmp $began{$b}{startedAt} || $began{$a}{run_id} <=> $began{$b}{run_id} } keys %began;
    is_deeply(\@order, [qw(9-0 9-1 5-0 5-1 0-0 0-1)], 'the highest first, then the oldest');
    $brood->stop;
};

my (%auth, $keys);
for my $label (qw(a b c)) {
    my $token = "brood_of-$label-" . sha256_hex(rand() . $$);
    $auth{$label} = [headers => {Authorization => "Bearer $token"}];
    $keys .= "  - label: $label\n    sha256: " . sha256_hex($token) . "\n    scopes: " . ($label eq 'c' ? '[execute]' : '[runs]') . "\n";
}

subtest 'keys' => sub {
    my $dir = Brood::_temp_dir();
    spew("$dir/keys.yaml", "keys:\n$keys");
    my $brood = Brood->start(dir => $dir, 'key-file' => "$dir/keys.yaml", 'languages-dir' => '', 'jobs-concurrency' => 1, 'jobs-queue-max' => 13, 'jobs-key-queue-max' => 10);
    is(submit($brood, 'true')->{http}, 401, 'without a key');
    is(submit($brood, 'true', @{$auth{c}})->{http}, 403, 'without the scope runs');
    my ($stuck) = stuck($brood, 1, @{$auth{a}});
    my @a = map { submit($brood, "echo a$_", @{$auth{a}})->{executionId} } 1 .. 10;
    my $full = submit($brood, 'true', @{$auth{a}});
    is_deeply([@$full{'http'}, $full->{error}{code}, $full->{headers}{'retry-after'}], [429, 'queue_full', 1], "a key's share: 429");
    my @b = map { submit($brood, "echo b$_", @{$auth{b}})->{executionId} } 1 .. 3;
    $full = submit($brood, 'true', @{$auth{b}});
    is_deeply([@$full{'http'}, $full->{error}{code}, $full->{headers}{'retry-after'}], [503, 'queue_full', 1], 'the whole: 503');
    is(status($brood, $a[0], @{$auth{b}})->{http}, 404, "another key's job is unknown");
    is(cancel($brood, $a[0], @{$auth{b}})->{http}, 404, 'cannot be cancelled');
    is(job_list($brood, '', @{$auth{b}})->{jobs}[0]{executionId}, $b[2], 'and is not listed');
    is(scalar @{job_list($brood, '?limit=1000', @{$auth{b}})->{jobs}}, 3, 'at all');
    is(status($brood, $b[0], @{$auth{b}})->{queuePosition}, 1, 'the other key has its turn at once');
    cancel($brood, $stuck, @{$auth{a}});
    my %ends = (map({ $_ => ended($brood, $_, @{$auth{a}}) } @a), map { $_ => ended($brood, $_, @{$auth{b}}) } @b);
    my @order = map { substr $_->{stdoutPreview}, 0, 1 } sort { $a->{run_id} <=> $b->{run_id} } values %ends;
    is(join('', sort @order[0 .. 5]), 'aaabbb', 'keys take turns') or diag("@order");
    $brood->stop;
};

subtest 'bytes' => sub {
    my $brood = Brood->start('languages-dir' => '', 'jobs-concurrency' => 1, 'jobs-queue-max-mb' => 1, 'http-body-max-kb' => 2048);
    my ($stuck) = stuck($brood, 1);
    is(submit($brood, 'cat | wc -c', input => 'x' x 600_000)->{http}, 202, 'what fits');
    my $r = submit($brood, 'true', input => 'x' x 600_000);
    is($r->{http}, 503, 'and what does not: 503');
    is(submit($brood, 'true')->{http}, 202, 'a small one still does');
    cancel($brood, $stuck);
    $brood->stop;
};

subtest 'a stop' => sub {
    my $brood = Brood->start('languages-dir' => '', 'jobs-concurrency' => 1, 'runs-drain-s' => 10);
    my $first = submit($brood, 'echo first; sleep 1.5')->{executionId};
    my @ids = map { submit($brood, "echo $_")->{executionId} } 1 .. 5;
    my $held = submit($brood, 'echo begun; sleep 1.5; echo done >>x', namespace_id => 'bob')->{executionId};
    my @behind = map { submit($brood, "echo $_ >>x", namespace_id => 'bob')->{executionId} } 1 .. 3;
    # What begins while it is called back has begun, and its attempt counts.
    until_true(10, sub { !grep { status($brood, $_)->{status} ne 'running' } $first, $held }) or die 'they do not begin';
    $brood->stop;
    is(`sqlite3 $brood->{fs_root}.state/store.db 'select count(*) from jobs where state < 2' 2>&1` + 0 > 0 ? 1 : 0, 1, 'some wait in the store');
    $brood->restart;
    is_deeply([map { my $s = ended($brood, $_); "$s->{status} $s->{attempts}" } $first, @ids, $held, @behind], [('completed 1') x 10], 'all end after the next start, each begun once');
    is($brood->sh(bob => 'cat x')->{stdout}, "done\n1\n2\n3\n", 'in their order');
    is(output($brood, $ids[4]), "5\n", 'with their outputs');
    $brood->stop;
};
done_testing;
