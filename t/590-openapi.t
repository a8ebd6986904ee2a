# SPDX-License-Identifier: Apache-2.0
# etc/openapi.yaml is what the service does: it is linted, served as it is, and prism stands between a client and the
# live server with --errors, so an answer (or a good request) that the document does not allow becomes an error of
# prism's. Requests that the document forbids are sent to the server itself, whose refusal must be in the document too.
use lib 't/lib';
use Brood;
use Brood::Ws;
use Mojo::UserAgent;
use POSIX qw(SIGTERM WNOHANG);

my $tools = Brood->root . '/tools/openapi';
my $prism = "$tools/node_modules/.bin/prism";
-x $prism or ($ENV{REQUIRE} ? BAIL_OUT('prism is required: tools/openapi/ready') : plan skip_all => 'no prism: tools/openapi/ready');

my $document = Brood->root . '/etc/openapi.yaml';
my $lint = `cd $tools && node_modules/.bin/redocly lint --config redocly.yaml $document 2>&1`;
is($?, 0, 'redocly finds nothing') or diag($lint);

my $receiver = 'http://127.0.0.1:' . free_port(); # nobody is there
my $brood = Brood->start('languages-dir' => '', tcp => 1, 'webhooks-allow' => $receiver, 'webhooks-allow-private' => '127.0.0.1');
my $port = free_port();
my $pid = fork // die "fork: $!";
if (!$pid) {
    open STDIN, '<', '/dev/null';
    open STDOUT, '>', "$brood->{dir}/prism.log";
    open STDERR, '>&', \*STDOUT;
    exec $prism, qw(proxy --errors -h 127.0.0.1 -p), $port, $document, "http://127.0.0.1:$brood->{port}" or POSIX::_exit(99);
}
END { if ($pid) { local $?; kill SIGTERM, $pid; waitpid $pid, 0 } }

my $ua = Mojo::UserAgent->new(inactivity_timeout => 60, request_timeout => 60);
sub via { return ("http://127.0.0.1:$port$_[0]") }
ok(until_true(60, sub { my $tx = $ua->get(via('/health')); !$tx->error }), 'prism answers') or diag(slurp("$brood->{dir}/prism.log"));

# One request through prism: the answer has the status, and prism has nothing against either.
sub conforms {
    my ($what, $status, $method, $path, @rest) = @_;
    my $tx = $ua->start($ua->build_tx($method => via($path), @rest));
    my $res = $tx->res;
    diag($tx->error->{message}, slurp("$brood->{dir}/prism.log")) if $tx->error && !$res->code;
    $res->code($res->code // 0);
    my $violations = $res->headers->header('sl-violations') // '';
    ok($res->code == $status && $violations eq '' && ($res->headers->content_type // '') !~ m{problem\+json}, "$what: $status")
      or diag($res->code, " $violations ", substr($res->body, 0, 1000));
    return $res;
}

conforms('health', 200, GET => '/health');
conforms('health, v1', 200, GET => '/v1/health');
conforms('ready', 200, GET => '/ready');
conforms('capabilities', 200, GET => '/v1/capabilities');
is(conforms('the document', 200, GET => '/openapi.yaml')->body, slurp($document), 'which is this one');
conforms('languages', 200, GET => '/v1/languages');
conforms("$_ for a page of elsewhere", 403, GET => $_, {Origin => 'https://evil.test'}) for qw(/v1/languages /v1/capabilities);

conforms('a command', 200, POST => '/execute', json => {namespace_id => 'alice', cmd => 'echo hi; exit 3'});
conforms('all it may have', 200, POST => '/execute', json => {namespace_id => 'alice', cmd => 'cat; echo $A >&2', stdin => 'x', env => {A => 'b'},
    cwd => '/tmp', timeout => 2.5, limits => {memory_mb => 64, pids => 32, cpu_ms => 2000}, encoding => 'base64'});
conforms('one that dies of a signal', 200, POST => '/execute', json => {namespace_id => 'alice', cmd => 'kill -9 $$'});
conforms('one that takes too long', 200, POST => '/execute', json => {namespace_id => 'alice', cmd => 'sleep 9', timeout => 0.2});
conforms('a call of a session', 200, POST => '/execute', json => {namespace_id => 'alice', cmd => 'cd /tmp', session => 's'});
conforms('its sessions', 200, GET => '/v1/namespaces/alice/sessions');
conforms('one is closed', 200, DELETE => '/v1/namespaces/alice/sessions/s');
conforms('which is not there', 404, DELETE => '/v1/namespaces/alice/sessions/s');
my $terminal = Brood::Ws->open($brood, '/v1/namespaces/alice/terminal?name=t');
ok($terminal->event('attached'), 'a terminal');
is(conforms('terminals', 200, GET => '/v1/namespaces/alice/terminals')->json->{terminals}[0]{name}, 't', 'it is listed');
conforms('one is ended', 200, DELETE => '/v1/namespaces/alice/terminals/t');
conforms('which is not there', 404, DELETE => '/v1/namespaces/alice/terminals/t');
conforms('no handshake', 426, GET => '/v1/namespaces/alice/terminal');
conforms('one that is denied a call', 200, POST => '/execute', json => {namespace_id => 'alice', cmd => 'unshare -U true'});
conforms('a cwd that is not there', 400, POST => '/execute', json => {namespace_id => 'alice', cmd => 'true', cwd => 'nowhere'});
conforms('code', 200, POST => '/execute', json => {language => 'python', code => 'print(1)'});
conforms('code that fails', 200, POST => '/execute', json => {language => 'python', code => 'raise SystemExit(3)', namespace_id => 'alice'});
conforms('code that does not compile', 200, POST => '/execute', json => {language => 'c', code => 'int main('});
conforms('a language that is not there', 400, POST => '/execute', json => {language => 'cobol', code => 'x'});

my $file = conforms('an upload', 200, POST => '/v1/files', form => {file => {content => "a,b\n", filename => 'in.csv', 'Content-Type' => 'text/csv'}})->json;
my $run = conforms('a run', 200, POST => '/v1/runs', json => {language => 'bash', code => 'cat in.csv | tee outputs/out.csv', files => [{id => $file->{id}, path => 'in.csv'}],
    args => ['x'], limits => {timeout_ms => 9000, memory_mb => 64}})->json;
is($run->{stdout}, "a,b\n", 'it had its file');
conforms('a run of a command', 200, POST => '/v1/runs', json => {cmd => 'true', namespace_id => 'alice'});
conforms('a stored run', 200, GET => "/v1/runs/$run->{id}");
conforms('stored runs', 200, GET => '/v1/runs?limit=1&status=succeeded');
conforms('a request with a key of its own', 200, POST => '/execute', {'Idempotency-Key' => 'one'}, json => {namespace_id => 'alice', cmd => 'true'}) for 1, 2;
conforms('another with the same', 422, POST => '/execute', {'Idempotency-Key' => 'one'}, json => {namespace_id => 'alice', cmd => 'false'});
conforms('likewise of runs', $_->[0], POST => '/v1/runs', {'Idempotency-Key' => 'two'}, json => {cmd => $_->[1]}) for [200, 'true'], [200, 'true'], [422, 'false'];
conforms('usage', 200, GET => '/v1/usage?from=2026-01-01&to=2026-11-21');
conforms('a run that nobody knows', 404, GET => '/v1/runs/run_nobody');
my $async = conforms('a run that nobody waits for', 202, POST => '/v1/runs', {Prefer => 'respond-async'}, json => {cmd => 'echo on; sleep 60', namespace_id => 'slow'});
like($async->headers->location, qr{^/v1/runs/run_}, 'with its place');
my $queued = conforms('one behind it', 202, POST => '/v1/runs', {Prefer => 'respond-async'}, json => {cmd => 'true', namespace_id => 'slow'});
for my $id (map { $_->json->{id} } $queued, $async) {
    conforms('under way', 200, GET => "/v1/runs/$id");
    conforms('cancelled', 202, DELETE => "/v1/runs/$id");
    ok(until_true(10, sub { ($ua->get("http://127.0.0.1:$brood->{port}/v1/runs/$id")->result->json // {})->{reason} }), 'it ends');
    is(conforms('stored', 200, GET => "/v1/runs/$id")->json->{status}, 'killed', 'killed');
}
# prism passes no stream on before it has ended; stdin and signals are for a run that waits.
conforms('a run as events', 200, POST => '/v1/runs', {Accept => 'text/event-stream'}, json => {cmd => 'echo hi'});
conforms('a command as lines', 200, POST => '/execute', {Accept => 'application/x-ndjson'}, json => {namespace_id => 'alice', cmd => 'echo hi'});
my $fed = conforms('a detached run', 202, POST => '/v1/runs', json => {cmd => 'cat; sleep 60', detach => \1, stdin_open => \1})->json->{id};
ok(until_true(20, sub { $ua->post("http://127.0.0.1:$brood->{port}/v1/runs/$fed/signal", json => {signal => 'WINCH'})->result->code == 202 }), 'it begins');
is(conforms('more for its stdin', 200, POST => "/v1/runs/$fed/stdin", json => {stdin => 'on', eof => \1})->json->{bytes}, 2, 'taken');
conforms('a signal', 202, POST => "/v1/runs/$fed/signal", json => {signal => 'TERM'});
is(conforms('its end awaited', 200, GET => "/v1/runs/$fed?wait=30")->json->{signal}, 'TERM', 'it ended by that');
conforms('stdin, too late', 409, POST => "/v1/runs/$fed/stdin", json => {stdin => 'x'});
conforms('a signal, too late', 409, POST => "/v1/runs/$fed/signal", json => {signal => 'TERM'});
my $events = conforms('its events', 200, GET => "/v1/runs/$fed/events", {Accept => 'text/event-stream'})->body;
my ($last) = $events =~ /id: (\d+)\nevent: result/;
conforms('nothing behind them', 204, GET => "/v1/runs/$fed/events", {'Last-Event-ID' => $last});
is(($brood->request(GET => $_, headers => {Accept => 'text/event-stream, */*'}) // {})->{status}, 200, "$_ without prism") for "/v1/runs/$fed/events", '/openapi.yaml';
conforms('events of a run that nobody knows', 404, GET => '/v1/runs/run_nobody/events');
conforms('a run of code that does not compile', 200, POST => '/v1/runs', json => {language => 'c', code => 'int main('});
conforms('a run with a file that is not there', 404, POST => '/v1/runs', json => {cmd => 'true', files => [{id => 'file_x', path => 'x'}]});
conforms('cancelling what is over', 409, DELETE => "/v1/runs/$run->{id}");
conforms('a limit beyond its ceiling', 400, POST => '/v1/runs', json => {cmd => 'true', limits => {memory_mb => 100000}});
(my $url = $run->{artifacts}[0]{url}) =~ s{^https?://[^/]+}{};
is(conforms('an artifact', 200, GET => $url)->body, "a,b\n", 'which is what the run wrote');
conforms('a part of it', 206, GET => $url, {Range => 'bytes=0-1'});
my $etag = conforms('its ETag', 200, GET => $url)->headers->etag // '';
conforms('known already', 304, GET => $url, {'If-None-Match' => $etag});
conforms('a part of another', 200, GET => $url, {Range => 'bytes=0-1', 'If-Range' => '"x"'});
conforms('a part that is not there', 416, GET => $url, {Range => 'bytes=100-'});
conforms('a bad signature', 403, GET => $url =~ s/sig=./sig=-/r);

my $job = conforms('a job', 202, POST => '/submit', json => {language => 'bash', code => 'read x; echo $x', userId => 'u1', input => "in\n", priority => 7, timeout => 5})->json->{executionId};
conforms('its end', 200, GET => "/status?id=$job&wait=20");
is(conforms('its status', 200, GET => "/status?id=$job")->json->{stdoutPreview}, "in\n", 'which has what it wrote');
my $output = conforms('its output', 200, GET => "/result?id=$job")->json->{url} =~ s{^https?://[^/]+}{}r;
is(conforms('fetched', 200, GET => $output)->body, "in\n", 'which is it');
my $slow = conforms('one that takes long', 202, POST => '/submit', json => {language => 'bash', code => 'sleep 60', namespace_id => 'slow'})->json->{executionId};
conforms('under way', 200, GET => "/status?id=$slow");
conforms('not yet', 409, GET => "/result?id=$slow");
conforms('cancelled', 202, DELETE => "/v1/jobs/$slow");
is(conforms('ended', 200, GET => "/status?id=$slow&wait=20")->json->{reason}, 'cancelled', 'as cancelled');
conforms('cancelled twice', 409, DELETE => "/v1/jobs/$slow");
conforms('jobs', 200, GET => '/v1/jobs?limit=1&status=failed');
my $told = conforms('one that names a receiver', 202, POST => '/submit', json => {language => 'bash', code => 'true', callback_url => "$receiver/x"})->json->{executionId};
conforms('its end', 200, GET => "/status?id=$told&wait=20");
ok(until_true(10, sub { my $r = $brood->request(GET => "/v1/jobs/$told/deliveries"); $r->{json}{deliveries}[0]{attempts}[0] }), 'it was tried to tell it');
conforms('its deliveries', 200, GET => "/v1/jobs/$told/deliveries");
conforms('no deliveries', 404, GET => "/v1/jobs/$job/deliveries");
conforms('a receiver that is not listed', 400, POST => '/submit', json => {language => 'bash', code => 'true', callback_url => 'http://evil.test/'});
conforms('a job that nobody knows', 404, GET => '/status?id=job_' . 'a' x 26);
conforms('a job in no language', 400, POST => '/submit', json => {language => 'cobol', code => 'x'});

conforms('a file of a namespace', $_, PUT => '/v1/namespaces/alice/files/text', {'Content-Type' => 'application/octet-stream'}, 'bytes') for 200, 200;
is(conforms('its bytes', 200, GET => '/v1/namespaces/alice/files/text')->body, 'bytes', 'they are');
conforms('a part of them', 206, GET => '/v1/namespaces/alice/files/text', {Range => 'bytes=1-2'});
$brood->sh(alice => 'mkdir -p tree/below');
conforms('a directory', 200, GET => '/v1/namespaces/alice/files/tree?limit=1&recursive=1');
conforms('what is not there', 404, GET => '/v1/namespaces/alice/files/nothing');
$brood->sh(alice => 'mkdir dir; echo x >dir/f');
my $tar = conforms('an archive', 200, GET => '/v1/namespaces/alice/archive?path=dir')->body;
conforms('a compressed one', 200, GET => '/v1/namespaces/alice/archive?path=dir&gzip=1');
conforms('an archive extracted', 200, POST => '/v1/namespaces/bob/archive', {'Content-Type' => 'application/x-tar'}, $tar);
conforms('a directory that is not empty', 409, DELETE => '/v1/namespaces/alice/files/dir');
conforms('a file deleted', 200, DELETE => '/v1/namespaces/alice/files/text');
conforms('an upload forgotten', 200, DELETE => "/v1/files/$file->{id}");
conforms('namespaces', 200, GET => '/v1/namespaces?limit=1');
conforms('a namespace removed', 200, DELETE => '/v1/namespaces/bob');
conforms('a namespace that is not there', 404, DELETE => '/v1/namespaces/bob');

# What prism would not let through.
my $direct = "http://127.0.0.1:$brood->{port}";
is($ua->post("$direct$_->[0]", json => $_->[1])->result->code, 400, "refused as documented: $_->[2]")
  for ['/execute', {cmd => 'true'}, 'a command without a namespace'], ['/execute', {namespace_id => 'a', cmd => 'true', language => 'c', code => ''}, 'both'],
  ['/v1/runs', {}, 'an empty run'], ['/v1/runs', {cmd => 'true', limits => {memory_mb => 1}}, 'too little memory'],
  ['/execute', {namespace_id => 'a', cmd => 'true', limits => {memory_mb => 15}}, 'less than 16 MiB'], ['/execute', {namespace_id => 'a', cmd => 'true', limits => {pids => 3}}, 'three processes'];

# Every path of the document exists, and answers other methods as it should.
my %methods;
for (split /\n/, slurp($document)) {
    if (m{^  (/\S*):$}) { $methods{$1} = {}; $methods{''} = $methods{$1} }
    $methods{''}{uc $1} = 1 if %methods && /^    (get|put|post|delete):$/;
    last if /^components:/;
}
delete $methods{''};
cmp_ok(scalar keys %methods, '>', 12, 'paths are found in the document');
for my $path (sort keys %methods) {
    (my $real = $path) =~ s/\{\w+\}/x/g;
    my $allow = $ua->start($ua->build_tx(PATCH => "$direct$real"))->result;
    my %allowed = map { $_ => 1 } grep { $_ ne 'HEAD' } split /, */, $allow->headers->header('Allow') // '';
    is(join(' ', sort keys %allowed), join(' ', sort keys %{$methods{$path}}), "$path: the methods of the document");
}
$brood->stop;
done_testing;
