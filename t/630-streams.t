# SPDX-License-Identifier: Apache-2.0
# Output while a run runs: the events of POST /execute and POST /v1/runs, in both forms and both encodings; what a
# refusal, a client that leaves, a heartbeat and a second reader see.
use lib 't/lib';
use Brood;
use Brood::Events;
use Digest::SHA qw(sha256_hex);
use MIME::Base64 qw(decode_base64);
use Mojo::JSON qw(encode_json);
use Time::HiRes qw(time);

my ($token, $other) = map { "brood_token-of-$_-" . sha256_hex(rand() . $$) } qw(one other);
my $dir = Brood::_temp_dir();
spew("$dir/keys.yaml", "keys:\n", map { "  - label: $_->[0]\n    sha256: " . sha256_hex($_->[1]) . "\n    scopes: [execute, runs, files]\n" } ['one', $token], ['other', $other]);
spew("$dir/policy.yaml", "policies: {small: {output_max_kb: 1}}\nnamespaces: [{match: 'small-*', policy: small}]\n");
my $brood = Brood->start(dir => $dir, 'policy-file' => "$dir/policy.yaml", 'key-file' => "$dir/keys.yaml", 'languages-dir' => '', 'http-threads' => 3, 'streams-heartbeat' => '1s',
    'http-write-timeout' => '2s', 'v1-runs-timeout-default' => '60s', 'v1-runs-timeout-max' => '60s');
my %auth = (Authorization => "Bearer $token");

sub stream { my ($method, $path, %opt) = @_; return Brood::Events->open($brood, $method, $path, %opt, headers => {%auth, %{$opt{headers} // {}}}) }
sub run_of { return stream(POST => '/v1/runs', body => {@_}) }
sub exec_of { return stream(POST => '/execute', body => {namespace_id => 'alice', @_}) }
sub text_of { return Brood::Events::text_of(@_) }
sub ask {
    my ($method, $path, $body, %headers) = @_;
    my $res = $brood->request($method, $path, (defined $body ? (body => $body) : ()), headers => {%auth, %headers}, timeout => 70) // {status => 0};
    return {http => $res->{status}, headers => $res->{headers}, error => '', code => '', ref $res->{json} eq 'HASH' ? %{$res->{json}} : ()};
}
sub ids_grow { my @ids = map { $_->{id} } @_; return "@ids" eq join ' ', $ids[0] .. $ids[0] + $#ids }

subtest 'a command' => sub {
    my $s = exec_of(cmd => 'rm -f go; mkfifo go; echo one; read x <go; echo two >&2; exit 3');
    is($s->{status}, 200, 'answered');
    like($s->{headers}{'content-type'}, qr{^text/event-stream}, 'as a stream of events');
    is($s->{headers}{'cache-control'}, 'no-store', 'which nobody keeps');
    my @events = ($s->next, $s->next);
    is_deeply([map { [$_->{id}, $_->{event}] } @events], [[1, 'started'], [2, 'stdout']], 'the first line is there while it runs');
    is($events[1]{data}{text}, "one\n", 'and is that line');
    like($events[0]{data}{started_at}, qr/^\d{4}-\d\d-\d\dT/, 'when it began');
    ok($s->beat(5), 'a heartbeat comes while nothing else does');
    my $fifo = $brood->find('go');
    open my $go, '>', $fifo or die "go: $!";
    print {$go} "on\n";
    close $go;
    push @events, $s->rest;
    ok($s->{ended}, 'it ends');
    ok(ids_grow(@events), 'numbers grow by one');
    is($events[-1]{event}, 'result', 'with the result');
    is_deeply([@{$events[-1]{data}}{qw(stdout stderr exit_code reason)}], ["one\n", "two\n", 3, 'exit'], 'as it would have been without a stream');
    is(text_of(stderr => @events), "two\n", 'stderr has its own events');
    my $plain = ask(POST => '/execute', {namespace_id => 'alice', cmd => 'true'}, Accept => 'application/json, */*');
    ok($plain->{http} == 200 && $plain->{headers}{'content-type'} =~ /json/, 'who does not ask for a stream gets none');
    my @more = exec_of(cmd => 'echo hi')->rest;
    is(scalar @more, 3, 'a short one: started, stdout, result') or diag(encode_json(\@more));
};

subtest 'lines of JSON' => sub {
    my $s = stream(POST => '/execute', ndjson => 1, body => {namespace_id => 'alice', cmd => q{printf 'a"\134\n\t\0b'; exec 1>&-; exec 2>&-; sleep 1.5}});
    like($s->{headers}{'content-type'}, qr{^application/x-ndjson}, 'said so');
    my @events = $s->rest;
    like(join(' ', map { $_->{event} } @events), qr/^started (?:stdout )+result$/, 'one line for each event');
    is(text_of(stdout => @events), "a\"\\\n\t\0b", 'the same objects');
    cmp_ok($s->{beats}, '>=', 1, 'a heartbeat is a line without a number');
};

subtest 'characters and bytes' => sub {
    # Each byte alone, with a pause long enough to be a read of its own.
    my $s = exec_of(cmd => 'for b in a "\303" "\244" "\342" "\202" "\254" "\360" "\237" "\220" "\243" "\377" "\342" x "\342\202"; do printf "$b"; sleep 0.02; done');
    my @events = $s->rest;
    is(text_of(stdout => @events), "a\x{e4}\x{20ac}\x{1f423}\x{fffd}\x{fffd}x\x{fffd}", 'no character is broken, what is broken is U+FFFD');
    is($events[-1]{data}{stdout}, text_of(stdout => @events), 'as in the result');
    @events = exec_of(cmd => 'for i in {0..20000}; do printf "\342\202\254"; done')->rest;
    is(text_of(stdout => @events), "\x{20ac}" x 20001, 'nor where an event ends');
    @events = exec_of(cmd => 'printf "\377\0\342"; sleep 0.1; printf "\202"', encoding => 'base64')->rest;
    is(join('', map { decode_base64($_->{data}{base64}) } grep { $_->{event} eq 'stdout' } @events), "\xff\0\xe2\x82", 'base64 is exact');
    @events = exec_of(cmd => 'head -c 3000000 /dev/urandom | tee random', encoding => 'base64', limits => {max_output_bytes => 100})->rest(60);
    my $got = join '', map { decode_base64($_->{data}{base64}) } grep { $_->{event} eq 'stdout' } @events;
    is(sha256_hex($got), sha256_hex(slurp($brood->find('random'))), 'three megabytes of anything');
    ok($events[-1]{data}{stdout_truncated} && $events[-1]{data}{stdout_bytes} == 3_000_000, 'the result keeps what its limit lets it');
};

subtest 'a policy bounds what is shown' => sub {
    my @events = stream(POST => '/execute', body => {namespace_id => 'small-1', cmd => 'for i in {1..300}; do echo line$i; done; echo problem >&2'})->rest;
    is(length text_of(stdout => @events), 1024, 'of stdout');
    is(text_of(stderr => @events), "problem\n", 'and of stderr, each');
    is($events[-1]{data}{stdout}, text_of(stdout => @events), 'as of what is answered');
};

subtest 'a program that is compiled' => sub {
    my @events = stream(POST => '/execute', body => {language => 'c', code => "#warning careful\n#include <stdio.h>\nint main(void) { puts(\"hi\"); }"})->rest(60);
    my ($warning) = grep { $_->{event} eq 'stderr' } @events;
    ok($warning && $warning->{data}{stage} eq 'compile' && $warning->{data}{text} =~ /careful/, 'what the compiler says is marked') or diag(encode_json(\@events));
    is(text_of(stdout => @events), "hi\n", 'and the program comes behind it');
    is($events[-1]{data}{status}, 'success', 'the result is that of code');
};

subtest 'refusals keep their status' => sub {
    is(exec_of(cmd => 'true', cwd => 'nowhere')->{status}, 200, 'what fails when it has begun is told by its last event');
    my @events = exec_of(cmd => 'true', cwd => 'nowhere')->rest;
    is_deeply([$events[-1]{event}, $events[-1]{data}{code}], ['error', 'bad_request'], 'an error') or diag(encode_json(\@events));
    is(stream(POST => '/v1/runs', body => {cmd => 'true'}, headers => {'Idempotency-Key' => 'one'})->{status}, 400, 'a stream cannot be repeated');
    my @twice = map { ask(POST => '/v1/runs', {cmd => 'echo once', detach => \1}, 'Idempotency-Key' => 'two')->{id} } 1 .. 2;
    ok($twice[0] && $twice[0] eq $twice[1], 'a detached run can: it is the same one');
    is(text_of(stdout => stream(GET => "/v1/runs/$twice[0]/events")->rest), "once\n", 'which can be watched');
    is(exec_of(cmd => 'true', policy => 'none')->{status}, 400, 'a policy that is not there');
    is(stream(POST => '/execute', body => {cmd => 'true'})->{status}, 400, 'no namespace');
    is(Brood::Events->open($brood, POST => '/execute', body => {namespace_id => 'alice', cmd => 'true'})->{status}, 401, 'no key');
};

subtest 'a client that leaves ends its run' => sub {
    my $s = exec_of(cmd => 'echo on; sleep 30; touch late');
    $s->next for 1 .. 2;
    my $began = time;
    $s->close;
    my ($status, $json) = $brood->execute({namespace_id => 'alice', cmd => 'echo next'}, headers => \%auth);
    ok($status == 200 && time - $began < 20, 'the next one goes at once');
    is($brood->find('late'), undef, 'it did not go on');
    $s = run_of(cmd => 'echo on; sleep 30', namespace_id => 'alice');
    my ($started) = ($s->next, $s->next);
    $s->close;
    ok(until_true(10, sub { ask(GET => "/v1/runs/$started->{data}{id}")->{http} == 404 }), 'a run that was not detached is not stored');
};

subtest 'a stored run' => sub {
    my $s = run_of(cmd => 'echo hi; echo a >outputs/a');
    my @events = $s->rest;
    my ($started, $result) = @events[0, -1];
    is($started->{data}{id}, $result->{data}{id}, 'its id comes first');
    is($result->{data}{artifacts}[0]{name}, 'a', 'artifacts come with the result');
    my $stored = ask(GET => "/v1/runs/$started->{data}{id}");
    delete $_->{url}, delete $_->{expires_at} for @{$result->{data}{artifacts}}, @{$stored->{artifacts}};
    delete @$stored{qw(http headers error code)};
    is_deeply($result->{data}, $stored, 'which is the document that is stored');
    is($stored->{events}, $result->{id}, 'it says how many events there were');
};

# Starts a run that waits for its fifo, detached: (id, sub that lets it go on).
my $fifos = 0;
sub waiting_run {
    my ($before, $after, %more) = @_;
    my $name = 'fifo' . ++$fifos;
    my $r = ask(POST => '/v1/runs', {cmd => "$before; mkfifo $name; read x <$name; $after", namespace_id => "ns$fifos", detach => \1, %more});
    is($r->{http}, 202, 'a detached run: 202') or diag(encode_json($r));
    return ($r->{id}, sub { my $path = $brood->wait_file($name) or return; open my $go, '>', $path or die "$path: $!"; print {$go} "go\n"; close $go });
}

subtest 'watching a run from elsewhere' => sub {
    my ($id, $go) = waiting_run('echo before', 'echo after');
    ok(!exists ask(GET => "/v1/runs/$id")->{reason}, 'it runs');
    my @readers = map { stream(GET => "/v1/runs/$id/events", ndjson => $_ % 2) } 1 .. 8; # over three threads
    my @seen = map { [$_->next, $_->next] } @readers;
    is(scalar(grep { $_->[1]{data}{text} eq "before\n" } @seen), 8, 'what was written before is there');
    is(Brood::Events->open($brood, GET => "/v1/runs/$id/events", headers => {Authorization => "Bearer $other"})->{status}, 404, "another key's run is unknown");
    is(stream(GET => "/v1/runs/$id/events", last => 9)->{status}, 400, 'an event that has not been');
    is(stream(GET => "/v1/runs/$id/events", last => 'x')->{status}, 400, 'no number');
    my $late = stream(GET => "/v1/runs/$id/events", last => 2, later => 1);
    $readers[0]->close;
    $go->();
    my @rest = map { [$_->rest] } @readers[1 .. 7];
    is(scalar(grep { @$_ == 2 && $_->[0]{data}{text} eq "after\n" && $_->[1]{event} eq 'result' && $_->[1]{id} == 4 } @rest), 7, 'all see the same');
    ok($late->head(10) && $late->{status} == 200, 'one who had two events');
    is_deeply([map { $_->{id} } $late->rest], [3, 4], 'gets the others');
    is_deeply([map { $_->{id} } stream(GET => "/v1/runs/$id/events", last => 3)->rest], [4], 'also when it is over');
    is(stream(GET => "/v1/runs/$id/events", last => 4)->{status}, 204, 'who has all is told to stay away');
    is(stream(GET => "/v1/runs/$id/events", last => 5)->{status}, 400, 'there is no more');
};

subtest 'what is left later' => sub {
    my ($id, $go) = waiting_run('echo before', 'echo after');
    $go->();
    is(ask(GET => "/v1/runs/$id?wait=20")->{stdout}, "before\nafter\n", 'it ends');
    $brood->stop;
    $brood->restart;
    my @events = stream(GET => "/v1/runs/$id/events", last => 1)->rest;
    is_deeply([map { $_->{event} } @events], [qw(gap result)], 'a gap and the result');
    is_deeply($events[0]{data}, {from => 2, to => 3}, 'which says what is missing');
    is_deeply([$events[1]{id}, $events[1]{data}{stdout}], [4, "before\nafter\n"], 'with its old number');
    is_deeply([map { $_->{event} } stream(GET => "/v1/runs/$id/events", last => 3, ndjson => 1)->rest], ['result'], 'no gap for who has all but the result');
    is(stream(GET => "/v1/runs/$id/events", last => 4)->{status}, 204, 'nothing for who has all');
    is(stream(GET => "/v1/runs/$id/events", last => 5)->{status}, 400, 'there is no more');
    is(stream(GET => '/v1/runs/run_' . 'a' x 26 . '/events')->{status}, 404, 'a run that never was');
    my $plain = ask(POST => '/v1/runs', {cmd => 'echo plain'});
    is_deeply([map { [$_->{id}, $_->{event}] } stream(GET => "/v1/runs/$plain->{id}/events")->rest], [[1, 'result']], 'of a run without a stream there is the result');
};

subtest 'waiting for the end' => sub {
    my ($id, $go) = waiting_run('true', 'echo done');
    my $began = time;
    my $r = ask(GET => "/v1/runs/$id?wait=1");
    ok($r->{status} eq 'running' && time - $began > 0.9, 'not before its time') or diag(encode_json($r));
    my @conns = map { my $c = $brood->connect; $c->put(Brood::Conn->request(GET => "/v1/runs/$id?wait=60", headers => \%auth)); $c } 1 .. 6;
    my $leaver = $brood->connect;
    $leaver->put(Brood::Conn->request(GET => "/v1/runs/$id?wait=60", headers => \%auth));
    $leaver->close;
    $go->();
    $began = time;
    is(scalar(grep { my $got = $_->get(20); $got && ($got->{json}{stdout} // '') eq "done\n" } @conns), 6, 'all are told, in every thread');
    cmp_ok(time - $began, '<', 20, 'at once');
    is(ask(GET => "/v1/runs/$id?wait=60")->{status}, 'succeeded', 'what is over is not waited for');
    is(ask(GET => "/v1/runs/$id?wait=$_")->{http}, 400, "wait=$_ is refused") for 61, -1, 'x';
    is(ask(POST => '/v1/runs', {cmd => 'true', detach => 'yes'})->{http}, 400, 'detach is a yes or a no');
    is(ask(POST => '/v1/runs', {cmd => 'true', stream => {keep => 'all'}})->{http}, 400, 'stream.keep all goes with detach');
    is(ask(POST => '/v1/runs', {cmd => 'true', detach => \1, stream => {keep => 'some'}})->{http}, 400, 'stream.keep is last or all');
};

subtest 'a detached run that streams' => sub {
    my $s = run_of(cmd => 'echo on; mkfifo leave; read x <leave; echo after; echo x >outputs/x', namespace_id => 'left', detach => \1);
    my @events = ($s->next, $s->next);
    $s->close;
    my $go = $brood->wait_file('leave');
    select undef, undef, undef, 0.3; # longer than it takes to notice
    open my $fifo, '>', $go or die "$go: $!";
    print {$fifo} "go\n";
    close $fifo;
    my $r = ask(GET => "/v1/runs/$events[0]{data}{id}?wait=20");
    is_deeply([$r->{stdout}, scalar @{$r->{artifacts}}], ["on\nafter\n", 1], 'goes on without its client, and is stored');
    is_deeply([map { $_->{event} } stream(GET => "/v1/runs/$r->{id}/events", last => 2)->rest], [qw(stdout result)], 'which comes back');
};

subtest 'a reader that stalls' => sub {
    my ($id, $go) = waiting_run('true', 'head -c 4000000 /dev/zero | tr "\0" x; touch all');
    my $stalled = stream(GET => "/v1/runs/$id/events");
    my $other = stream(GET => "/v1/runs/$id/events", ndjson => 1);
    $go->();
    ok(!until_true(1, sub { $brood->find('all') }), 'holds the run up');
    my $began = time;
    my @events = $other->rest(30);
    is(length text_of(stdout => @events), 4_000_000, 'the other one gets everything') or diag(scalar @events);
    cmp_ok(time - $began, '<', 25, 'once the write deadline has cut the first one');
    my @got = $stalled->rest(5);
    ok(!$stalled->{ended} && !grep({ $_->{event} eq 'result' } @got), 'which sees a broken connection, no end');
    is(ask(GET => "/v1/runs/$id?wait=20")->{status}, 'succeeded', 'and the run is well');
    my @again = stream(GET => "/v1/runs/$id/events", last => $got[-1]{id})->rest(20);
    is($again[0]{event}, 'gap', 'who comes back so late is told of a gap');
    is($again[0]{data}{from}, $got[-1]{id} + 1, 'behind the last one it had');
    is($again[1]{id}, $again[0]{data}{to} + 1, 'and goes on behind it');
    is($again[-1]{event}, 'result', 'to the end');
};

$brood->stop;
done_testing;
