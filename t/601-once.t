# SPDX-License-Identifier: Apache-2.0
# Idempotency-Key: the same request is done once and answered as often as it comes; another one is refused; what was
# refused is not remembered; a client that leaves finds its answer later. Killed in between: t/602-killed-once.t.
use lib 't/lib';
use Brood;
use Digest::SHA qw(sha256_hex);

my %token = map { $_ => "brood_token-of-$_-" . sha256_hex(rand() . $$) } qw(ann bob);
my $dir = Brood::_temp_dir();
sub keys_file {
    my ($more) = @_;
    spew("$dir/keys.yaml", "keys:\n" . join '', map { "  - label: $_\n    sha256: " . sha256_hex($token{$_}) . "\n    scopes: [execute, runs, namespaces]\n" . ($more // '') } sort keys %token);
}
keys_file();
my $brood = Brood->start(dir => $dir, 'key-file' => "$dir/keys.yaml", 'languages-dir' => '', 'runs-output-max-kb' => 4096, 'runs-queue-max' => 1, 'runs-max-wait' => '20s');

sub ask {
    my ($path, $body, $key, %opt) = @_;
    my %headers = (Authorization => 'Bearer ' . $token{$opt{who} // 'ann'}, (defined $key ? ('Idempotency-Key' => $key) : ()), %{$opt{headers} // {}});
    return $brood->request(POST => $path, body => $body, headers => \%headers, timeout => 60) // {status => 0, headers => {}, body => ''};
}
sub code { return ($_[0]{json} // {})->{code} // ($_[0]{json}{error} // {})->{code} // '' }
sub command { return {namespace_id => $_[1] // 'counts', cmd => $_[0]} }
sub lines_of { my $r = ask('/execute', command("cat $_[0] 2>/dev/null", $_[1])); return $r->{json}{stdout} }

subtest 'the same again' => sub {
    my $do = command('echo x >>once; echo out; echo err >&2; exit 3');
    my $first = ask('/execute', $do, 'key-1');
    is($first->{status}, 200, 'it runs');
    ok(!$first->{headers}{'idempotency-replayed'}, 'the first answer says nothing of it');
    for my $i (1 .. 3) {
        my $again = ask('/execute', $do, 'key-1');
        is($again->{body}, $first->{body}, "again: the same bytes, $i");
        is_deeply([$again->{status}, $again->{headers}{'content-type'}, $again->{headers}{'idempotency-replayed'}], [200, 'application/json', 'true'], 'status, type, and that it is the first one');
        isnt($again->{headers}{'x-request-id'}, $first->{headers}{'x-request-id'}, 'the request has an id of its own');
    }
    is(lines_of('once'), "x\n", 'it ran once');
    my $other = ask('/execute', command('echo y >>once'), 'key-1');
    is_deeply([$other->{status}, code($other)], [422, 'idempotency_mismatch'], 'another body: 422');
    $other = ask('/v1/runs', $do, 'key-1');
    is_deeply([$other->{status}, code($other)], [422, 'idempotency_mismatch'], 'another path: 422');
    like($other->{json}{error}, qr/belongs to another/, 'in the shape of that path');
    $other = ask('/execute?x', $do, 'key-1');
    is($other->{status}, 422, 'another query: 422');
    is(lines_of('once'), "x\n", 'and nothing ran');
    my $theirs = ask('/execute', command('echo theirs', 'b'), 'key-1', who => 'bob');
    is($theirs->{json}{stdout}, "theirs\n", "another key's names are its own");
    is(ask('/execute', $do, undef)->{status}, 200, 'without the header');
    is(ask('/execute', $do, undef)->{headers}{'idempotency-replayed'}, undef, 'it runs each time');
    is(lines_of('once'), "x\n" x 3, 'as it did');
};

subtest 'stored runs' => sub {
    my $do = {cmd => 'echo stored; echo a >outputs/a'};
    my $first = ask('/v1/runs', $do, 'run-1');
    my $again = ask('/v1/runs', $do, 'run-1');
    is($first->{status}, 200, 'a run') or diag explain $first;
    is($again->{body}, $first->{body}, 'the same id, output and artifacts');
    my $async = ask('/v1/runs', {cmd => 'sleep 0.2; echo later'}, 'run-2', headers => {Prefer => 'respond-async'});
    my $same = ask('/v1/runs', {cmd => 'sleep 0.2; echo later'}, 'run-2', headers => {Prefer => 'respond-async'});
    is($async->{status}, 202, 'one that goes on');
    is_deeply([$same->{status}, $same->{body}, $same->{headers}{location}, $same->{headers}{'preference-applied'}],
        [202, $async->{body}, $async->{headers}{location}, 'respond-async'], 'again: the same 202 with its headers');
    ok(until_true(10, sub { ($brood->request(GET => $async->{headers}{location}, headers => {Authorization => "Bearer $token{ann}"})->{json}{stdout} // '') eq "later\n" }), 'and it ends');
};

subtest 'jobs' => sub {
    my $do = {userId => 'u', language => 'bash', code => 'echo job >>/work/jobs-ran; echo done', namespace_id => 'jobs'};
    my $first = ask('/submit', $do, 'job-1');
    is($first->{status}, 202, 'a job');
    is(ask('/submit', $do, 'job-1')->{body}, $first->{body}, 'again: the same one') for 1 .. 3;
    is(ask('/submit', {%$do, code => 'true'}, 'job-1')->{status}, 422, 'another: 422');
    my $status = sub { return $brood->request(GET => "/status?id=$first->{json}{executionId}", headers => {Authorization => "Bearer $token{ann}"})->{json} };
    ok(until_true(20, sub { $status->()->{status} eq 'completed' }), 'it ends');
    is(ask('/submit', $do, 'job-1')->{json}{executionId}, $first->{json}{executionId}, 'and still again');
    my $jobs = $brood->request(GET => '/v1/jobs', headers => {Authorization => "Bearer $token{ann}"})->{json}{jobs};
    is_deeply([scalar @$jobs, lines_of('jobs-ran', 'jobs')], [1, "job\n"], 'there is one, and it ran once');
    is(ask('/submit', {userId => 'u', language => 'cobol', code => 'x'}, 'job-2')->{status}, 400, 'a refusal');
    is(ask('/submit', $do, 'job-2')->{status}, 202, 'is not remembered');
};

subtest 'keys' => sub {
    my $do = command('true');
    for (['' => 'empty'], ["a b" => 'a space'], ["caf\xc3\xa9" => 'no ASCII'], ['x' x 256 => '256 characters'], ["a\tb" => 'a tab']) {
        my ($key, $what) = @$_;
        my $res = ask('/execute', $do, $key);
        ok($res->{status} == 400 && $res->{json}{error}{message} =~ /Idempotency-Key: expected 1 to 255/, "$what: 400, by name") or diag explain $res;
    }
    is(ask('/execute', $do, $_)->{status}, 200, 'good: ' . substr $_, 0, 40) for 'x', 'x' x 255, '"8e03978e-40d5-43e8-bc93-6894a57f9324"', join '', map { chr } 0x21 .. 0x7e;
    my $conn = $brood->connect;
    my $body = '{"namespace_id":"counts","cmd":"true"}';
    $conn->put(join "\r\n", 'POST /execute HTTP/1.1', 'Host: x', "Authorization: Bearer $token{ann}", 'Idempotency-Key: a1', 'Idempotency-Key: a1', 'Content-Length: ' . length $body, '', $body);
    is($conn->get(20)->{status}, 400, 'two of them: 400');
    is(ask('/execute', $do, 'stream-1', headers => {Accept => 'text/event-stream'})->{status}, 400, 'with a stream: 400');
    is(ask('/execute', $do, 'free-1')->{status}, 200, 'what was refused so');
    is($brood->request(GET => '/health', headers => {'Idempotency-Key' => 'a b'})->{status}, 200, 'other routes do not look at it');
};

subtest 'refusals are not remembered' => sub {
    my $bad = {namespace_id => 'counts', cmd => 7};
    is(ask('/execute', $bad, 'bad-1')->{status}, 400, 'a bad request');
    is(ask('/execute', $bad, 'bad-1')->{headers}{'idempotency-replayed'}, undef, 'again: refused anew');
    is(ask('/execute', command('echo fixed'), 'bad-1')->{json}{stdout}, "fixed\n", 'its key is free for what is meant');
    my $missing = {cmd => 'cat x', files => [{id => 'file_aaaaaaaaaaaaaaaaaaaaaaaaaa', path => 'x'}]};
    is(ask('/v1/runs', $missing, 'bad-2')->{status}, 404, 'a file that is not there');
    is(ask('/v1/runs', {cmd => 'true'}, 'bad-2')->{status}, 200, 'likewise');
    # A namespace that is full: one runs, one waits, the third is refused.
    my @busy;
    for my $i (1, 2) {
        push @busy, $brood->connect;
        $busy[-1]->put(Brood::Conn->request(POST => '/execute', body => command("touch began; sleep 20", 'full'), headers => {Authorization => "Bearer $token{ann}"}));
        ok($i == 1 ? $brood->wait_file('began') : until_true(10, sub { grep { $_->{id} eq 'full' && $_->{queued} == 1 } @{$brood->request(GET => '/v1/namespaces', headers => {Authorization => "Bearer $token{ann}"})->{json}{namespaces}} }), $i == 1 ? 'one runs' : 'one waits');
    }
    my $full = ask('/execute', command('echo >>turns', 'full'), 'full-1');
    is_deeply([$full->{status}, code($full)], [503, 'queue_full'], 'its queue is full: 503');
    ok($full->{headers}{'retry-after'}, 'with Retry-After');
    $_->close for @busy;
    my $then;
    ok(until_true(10, sub { $then = ask('/execute', command('echo >>turns', 'full'), 'full-1'); $then->{status} == 200 }), 'later it runs');
    is(ask('/execute', command('echo >>turns', 'full'), 'full-1')->{body}, $then->{body}, 'and that is remembered');
    is(lines_of('turns', 'full'), "\n", 'once') if $then->{json}{exit_code} == 0;
};

subtest 'while it is under way' => sub {
    my $do = command('echo >>began-slow; until [ -e go-on ]; do sleep 0.02; done; echo done', 'slow');
    my $first = $brood->connect;
    $first->put(Brood::Conn->request(POST => '/execute', body => $do, headers => {Authorization => "Bearer $token{ann}", 'Idempotency-Key' => 'slow-1'}));
    ok($brood->wait_file('began-slow'), 'it runs');
    my $again = ask('/execute', $do, 'slow-1');
    is_deeply([$again->{status}, code($again), $again->{headers}{'retry-after'}], [409, 'in_progress', 1], 'the same: 409 in_progress, Retry-After');
    is(ask('/execute', command('true', 'slow'), 'slow-1')->{status}, 422, 'another: 422');
    spew(($brood->find('began-slow') =~ s/began-slow\z/go-on/r), '');
    is($first->get(20)->{json}{stdout}, "done\n", 'its own client gets the answer');
    is(ask('/execute', $do, 'slow-1')->{json}{stdout}, "done\n", 'and so do others');
    is(lines_of('began-slow', 'slow'), "\n", 'it ran once');
};

subtest 'a client that leaves' => sub {
    my $do = command('echo >>began-left; sleep 0.7; echo finished; echo >>ended', 'left');
    my $first = $brood->connect;
    $first->put(Brood::Conn->request(POST => '/execute', body => $do, headers => {Authorization => "Bearer $token{ann}", 'Idempotency-Key' => 'left-1'}));
    ok($brood->wait_file('began-left'), 'it runs');
    $first->close;
    my $res;
    ok(until_true(20, sub { $res = ask('/execute', $do, 'left-1'); $res->{status} != 409 }), 'its answer is found later');
    is_deeply([$res->{status}, $res->{json}{stdout}, $res->{json}{reason}, $res->{headers}{'idempotency-replayed'}], [200, "finished\n", 'exit', 'true'], 'it was not cancelled');
    is(lines_of('ended', 'left'), "\n", 'and ran once');
    ok($brood->wait_log(qr/"path":"\/execute".*"ns":"left","run_id":\d+,"reason":"exit"/), 'the log has it');
    for my $i (1 .. 30) { # at any moment
        my $conn = $brood->connect;
        $conn->put(Brood::Conn->request(POST => '/execute', body => command("echo $i >>gone", 'gone'), headers => {Authorization => "Bearer $token{ann}", 'Idempotency-Key' => "gone-$i"}));
        select undef, undef, undef, rand 0.01;
        $conn->close;
        my $r;
        until_true(20, sub { $r = ask('/execute', command("echo $i >>gone", 'gone'), "gone-$i"); $r->{status} != 409 });
        is($r->{status}, 200, "left at some time, $i") or diag explain $r;
    }
    is(lines_of('gone', 'gone'), join('', map { "$_\n" } 1 .. 30), 'each ran once, in order');
};

subtest 'many at once' => sub {
    my @conns = map { $brood->connect } 1 .. 24;
    my %said;
    for my $round (1 .. 5) {
        $_->put(Brood::Conn->request(POST => '/execute', body => command("echo $round >>race", 'race'), headers => {Authorization => "Bearer $token{ann}", 'Idempotency-Key' => "race-$round"})) for @conns;
        $said{($_->get(20) // {status => 0})->{status}}++ for @conns;
    }
    like(join(' ', sort keys %said), qr/^200(?: 409)?$/, 'each is told the first answer, or that it is under way');
    is(lines_of('race', 'race'), join('', map { "$_\n" } 1 .. 5), 'each was done once');
};

subtest 'large answers' => sub {
    my $kept = command('head -c 900000 /dev/zero | tr "\0" a');
    my $first = ask('/execute', $kept, 'large-1');
    is(length $first->{json}{stdout}, 900000, 'below 1 MiB');
    my $again = ask('/execute', $kept, 'large-1');
    ok($again->{body} eq $first->{body} && $again->{headers}{'idempotency-replayed'}, 'comes again whole');
    my $large = command('echo >>larges; head -c 3000000 /dev/zero | tr "\0" b');
    $first = ask('/execute', $large, 'large-2');
    is(length $first->{json}{stdout}, 3000000, 'above: its client gets it');
    $again = ask('/execute', $large, 'large-2');
    is_deeply([$again->{status}, code($again)], [409, 'answer_not_kept'], 'again: it is done, but its answer is not kept');
    is(lines_of('larges'), "\n", 'it ran once');
};

subtest 'restart' => sub {
    my $do = command('echo >>restarted; echo x', 'restarted');
    my $first = ask('/execute', $do, 'restart-1');
    $brood->restart;
    is(ask('/execute', $do, 'restart-1')->{body}, $first->{body}, 'the answer is there after a restart');
    # One that runs when the service is told to stop: it ends first, though its client is gone.
    my $slow = command('echo >>stops; sleep 1; echo stopped', 'restarted');
    my $conn = $brood->connect;
    $conn->put(Brood::Conn->request(POST => '/execute', body => $slow, headers => {Authorization => "Bearer $token{ann}", 'Idempotency-Key' => 'restart-2'}));
    ok($brood->wait_file('stops'), 'one is under way');
    $conn->close;
    $brood->restart;
    is(ask('/execute', $slow, 'restart-2')->{json}{stdout}, "stopped\n", 'the stop waited for it, and its answer is there');
    is(lines_of('stops', 'restarted'), "\n", 'it ran once');
};
$brood->stop;

subtest 'how long, how many' => sub {
    my $few = Brood->start('store-idempotency-s' => 2, 'store-idempotency-max' => 3);
    my $get = sub { my ($key, $n) = @_; return $few->request(POST => '/execute', body => {namespace_id => 'a', cmd => "echo $n >>n$n; wc -l <n$n"}, headers => {'Idempotency-Key' => $key})->{json}{stdout} };
    is($get->('old', 1), "1\n", 'a request');
    is($get->('old', 1), "1\n", 'is remembered');
    ok(until_true(10, sub { $get->('old', 1) eq "2\n" }), 'for a while');
    is($get->("k$_", 2), "$_\n", 'many') for 1 .. 5;
    is($get->('k5', 2), "5\n", 'the newest is remembered');
    is($get->('k1', 2), "6\n", 'the oldest is not');
    $few->stop;
};
done_testing;
