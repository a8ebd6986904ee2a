# SPDX-License-Identifier: Apache-2.0
# Keys: who is let in and who is not, what a key may do, where its token never shows, and that a reload changes who
# is let in without touching what runs. Rates: t/555-rate.t.
use lib 't/lib';
use Brood;
use Digest::SHA qw(sha256_hex);
use IO::Socket::IP;
use POSIX qw(strftime);
use Time::HiRes qw(time);

my $brood_bin = Brood::build() . '/brood';
my @tokens; # every token of this test: none may be in any log

# A token and its entry of a key file.
sub key {
    my ($label, %more) = @_;
    my $token = "brood_token-of-$label-" . sha256_hex(rand() . $$);
    push @tokens, $token;
    $more{scopes} //= '[execute, runs, files]';
    my $text = "  - label: $label\n    sha256: " . sha256_hex($token) . "\n" . join '', map { "    $_: $more{$_}\n" } sort keys %more;
    return ($token, $text);
}

sub auth { return (headers => {Authorization => "Bearer $_[0]"}) }

# Runs a command as the holder of a token: (status, JSON, headers).
sub as {
    my ($brood, $token, $ns, $cmd, %more) = @_;
    return $brood->execute({namespace_id => $ns, cmd => $cmd // 'echo hi', %more}, auth($token));
}

sub status_of { return (as(@_))[0] }

sub start_with {
    my ($keys, %opt) = @_;
    my $dir = Brood::_temp_dir();
    spew("$dir/keys.yaml", "keys:\n$keys");
    return Brood->start(dir => $dir, 'key-file' => "$dir/keys.yaml", %opt);
}

# Another key file, and the line that says so: what is in force then.
sub reload {
    my ($brood, $text, $event) = @_;
    my $count = sub { scalar grep { ($_->{event} // '') eq $event } $brood->log_lines };
    my $before = $count->();
    spew("$brood->{dir}/keys.yaml", $text);
    $brood->signal('HUP');
    return until_true(10, sub { $count->() > $before });
}

# No byte of a token in the log, in any process's arguments or environment.
sub keeps_secrets {
    my ($brood) = @_;
    my $log = slurp($brood->{log});
    my @in_log = grep { index($log, $_) >= 0 } @tokens;
    my @in_proc = grep { my $p = $_; my $text = join '', map { slurp("/proc/$p->{pid}/$_") // '' } qw(cmdline environ); grep { index($text, $_) >= 0 } @tokens } $brood->processes;
    local $Test::Builder::Level = $Test::Builder::Level + 1;
    ok(!@in_log && !@in_proc, 'no token in the log, in arguments or environments')
      or diag("log: @in_log; processes: @{[map { $_->{role} } @in_proc]}");
}

subtest 'without keys' => sub {
    my $brood = Brood->start(tcp => 1);
    for my $header (undef, 'Bearer whatever', 'Basic eA==', '') {
        my ($status) = $brood->execute({namespace_id => 'alice', cmd => 'true'}, via => 'tcp', headers => {Authorization => $header});
        is($status, 200, 'everybody on this machine is served; Authorization is ignored: ' . ($header // 'none'));
    }
    ok(!defined(($brood->execute({namespace_id => 'alice', cmd => 'true'}))[2]{'ratelimit-limit'}), 'there is no RateLimit');
    ok($brood->wait_log(qr/"event":"serving".*"access":"anyone on this machine: no keys are configured"/), 'the start says so');
    $brood->stop;
};

sub listens {
    my ($address, $port) = @_;
    my $sock = IO::Socket::IP->new(PeerHost => $address, PeerPort => $port, Proto => 'tcp') or return 'nothing';
    print {$sock} "GET /v1/capabilities HTTP/1.0\r\n\r\n";
    my $line = <$sock> // '';
    return $line =~ /^HTTP\S+ (\d+)/ ? $1 : 'no HTTP';
}

subtest 'where it listens' => sub {
    for my $address ('0.0.0.0', '::', '::ffff:127.0.0.1', '128.0.0.1') {
        my $brood = Brood->start(tcp => 1, ready => 0, 'http-listen' => $address);
        ok($brood->wait_exit(10) && $brood->{status} != 0, "$address is refused without keys");
        like(slurp($brood->{log}), qr/--http-listen: expected a loopback address.*without keys \(key_file or API_KEYS; brood key new\)/, 'naming setting and remedy');
        ok(!-e $brood->{fs_root}, 'before anything was done');
    }
    for my $address ('example.org', '[::1]') {
        my $brood = Brood->start(tcp => 1, ready => 0, 'http-listen' => $address);
        ok($brood->wait_exit(10) && $brood->{status} != 0, "$address is no address");
        like(slurp($brood->{log}), qr/--http-listen: expected an IPv4 or IPv6 address/, 'and named');
    }
    my ($token, $entry) = key('remote');
    for (['localhost', '127.0.0.1', 200], ['::1', '::1', 200], ['0.0.0.0', '127.0.0.1', 401, 1], ['::', '::1', 401, 1], ['::', '127.0.0.1', 401, 1]) {
        my ($address, $ask, $status, $keys) = @$_;
        my $brood = $keys ? start_with($entry, tcp => 1, 'http-listen' => $address) : Brood->start(tcp => 1, 'http-listen' => $address);
        is(listens($ask, $brood->{port}), $status, "$address " . ($keys ? 'with keys' : 'without') . ": $ask is answered with $status");
        $brood->stop;
    }
};

my ($alice, $alice_entry) = key('alice');
my ($runner, $runner_entry) = key('runner', scopes => '[runs]');
my ($ci, $ci_entry) = key('ci', namespaces => '"ci-*"');
my ($one, $one_entry) = key('one', namespaces => 'single');
my ($admin, $admin_entry) = key('admin', scopes => '[admin]');
my ($old, $old_entry) = key('old', expires => '2025-01-01T00:00:00Z');
my $until = strftime('%Y-%m-%dT%H:%M:%SZ', gmtime(time + 4));
my ($brief, $brief_entry) = key('brief', expires => $until);
my ($small, $small_entry) = key('small', limits => '{timeout_ms: 1500, memory_mb: 64, cpu_ms: 1000}');
my ($lean, $lean_entry) = key('lean', limits => '{memory_mb: 64}');
my ($files, $files_entry) = key('files', scopes => '[namespaces]', namespaces => '"ci-*"');
my $all = $files_entry . $alice_entry . $runner_entry . $ci_entry . $one_entry . $admin_entry . $old_entry . $brief_entry . $small_entry . $lean_entry;
my $brood = start_with($all, tcp => 1);

subtest 'expiry' => sub {
    my $seen_good = status_of($brood, $brief, 'b') == 200;
    ok($seen_good || strftime('%Y-%m-%dT%H:%M:%SZ', gmtime(time)) ge $until, 'until then');
    ok(until_true(10, sub { status_of($brood, $brief, 'b') == 401 }), 'and expires by itself');
    cmp_ok(strftime('%Y-%m-%dT%H:%M:%SZ', gmtime(time)), 'ge', $until, 'not before its time');
    my ($status, $json) = as($brood, $old, 'b');
    is($status, 401, 'one that has expired is refused');
    like($json->{error}{message}, qr/expired/, 'and told so');
};

subtest 'who is let in' => sub {
    for my $via (qw(unix tcp)) {
        my $res = $brood->request(POST => '/execute', body => {namespace_id => 'a', cmd => 'touch ran'}, via => $via);
        is($res->{status}, 401, "nobody without a key, $via");
        is($res->{headers}{'www-authenticate'}, 'Bearer realm="brood"', 'WWW-Authenticate');
        is($res->{json}{error}{code}, 'unauthorized', 'the general shape of an error');
        $res = $brood->request(POST => '/execute', body => {namespace_id => 'a', cmd => 'echo hi'}, via => $via, auth($alice));
        is($res->{status}, 200, 'who has one is');
        is($res->{json}{stdout}, "hi\n", 'and served');
    }
    is($brood->find('ran'), undef, 'nothing of the others ran');
    is(status_of($brood, $admin, 'a'), 200, 'admin is every scope');
    my ($status, $json) = as($brood, $runner, 'a');
    is($status, 403, 'another scope is not enough');
    is($json->{error}{message}, 'this key lacks the scope execute', 'and named');
    is($brood->request(GET => $_)->{status}, 200, "$_ is open") for qw(/health /v1/health /ready);
    for my $path (qw(/v1/capabilities /v1/languages)) {
        is($brood->request(GET => $path)->{status}, 401, "$path is for any key");
        is($brood->request(GET => $path, auth($runner))->{status}, 200, 'whatever its scopes');
    }
    is($brood->request(GET => '/nowhere')->{status}, 404, 'what is not there is told anybody');
};

subtest 'odd headers' => sub {
    my $send = sub {
        my (@lines) = @_;
        my $conn = $brood->connect;
        my $body = '{"namespace_id":"a","cmd":"echo hi"}';
        $conn->put(join "\r\n", 'POST /execute HTTP/1.1', 'Host: x', 'Content-Type: application/json', 'Content-Length: ' . length $body, @lines, '', $body);
        my $res = $conn->get(5);
        return $res ? $res->{status} : 0;
    };
    is($send->("authorization: bearer $alice"), 200, 'lower case');
    is($send->("AUTHORIZATION: BEARER $alice"), 200, 'upper case');
    is($send->("Authorization:   Bearer    $alice  "), 200, 'blanks around it');
    is($send->("Authorization: Bearer $alice", "Authorization: Bearer $alice"), 401, 'two headers, even the same');
    is($send->("Authorization: Bearer $alice", 'Authorization: Bearer x'), 401, 'two headers');
    is($send->("Authorization: Bearer $alice, Bearer $alice"), 401, 'two in one');
    is($send->("Authorization: Basic $alice"), 401, 'another scheme');
    is($send->("Authorization: $alice"), 401, 'no scheme');
    is($send->("Authorization: Bearer$alice"), 401, 'no blank');
    is($send->('Authorization: Bearer'), 401, 'no token');
    is($send->('Authorization: Bearer '), 401, 'an empty token');
    is($send->('Authorization:'), 401, 'an empty header');
    is($send->("Authorization: Bearer \t$alice"), 401, 'a tab');
    is($send->('Authorization: Bearer ' . substr $alice, 0, -1), 401, 'all but one character');
    is($send->("Authorization: Bearer ${alice}a"), 401, 'one more');
    is($send->('Authorization: Bearer ' . uc $alice), 401, 'capitals');
    is($send->('Authorization: Bearer ' . 'x' x $_), 401, "$_ characters") for 256, 257, 20_000;
    is($send->("Authorization: Bearer \x{e4}\x{fc}\xff"), 401, 'bytes beyond ASCII');
    is($send->('Authorization: Bearer ' . sha256_hex($alice)), 401, 'the hash of a token is none');
    is($send->("X-Authorization: Bearer $alice", "Proxy-Authorization: Bearer $alice", "Cookie: key=$alice"), 401, 'other headers');
    for my $bad ("\0", "\x01", "\x7f") {
        my $status = $send->("Authorization: Bearer $alice$bad");
        ok($status == 400 || $status == 401 || $status == 0, sprintf 'a control character %02x: %s', ord $bad, $status);
    }
    is($brood->request(POST => "/execute?key=$alice", body => {namespace_id => 'a', cmd => 'true'})->{status}, 401, 'a token in the query is none');
};

subtest 'namespaces' => sub {
    is(status_of($brood, $ci, $_), 200, "ci-* may use $_") for 'ci-1', 'ci-', 'ci--', 'ci-x.y';
    for my $ns ('ci', 'CI-1', 'xci-1', 'c', 'single', 'ci_1') {
        my ($status, $json) = as($brood, $ci, $ns, 'touch ran');
        is("$status $json->{error}{code}", '403 forbidden', "but not $ns");
    }
    is(status_of($brood, $ci, $_), 400, "and $_ is no namespace") for 'ci-*', 'ci-/../x', "ci-\0";
    is(status_of($brood, $one, 'single'), 200, 'a whole name');
    is(status_of($brood, $one, $_), 403, "not $_") for 'single2', 'singl', 'Single';
    is(status_of($brood, $admin, 'single'), 200, 'admin uses all');
    is($brood->find('ran'), undef, 'nothing ran');
    ok(!grep({ /^(?:xci-1|CI-1|ci_1)$/ } $brood->volumes), 'and no namespace was made');
};

subtest 'what belongs to whom' => sub {
    my $run = $brood->request(POST => '/v1/runs', body => {cmd => 'echo mine'}, auth($alice));
    is($run->{status}, 200, 'alice has a run') or diag($run->{body});
    my $id = $run->{json}{id} // 'none';
    is($brood->request(GET => "/v1/runs/$id", auth($alice))->{json}{stdout}, "mine\n", 'and reads it');
    is($brood->request(GET => "/v1/runs/$id", auth($runner))->{status}, 404, 'another key does not');
    is($brood->request(DELETE => "/v1/runs/$id", auth($runner))->{status}, 404, 'nor cancels it');
    is($brood->request(GET => "/v1/runs/$id", auth($ci))->{status}, 404, 'whatever its scopes');
    my $res = $brood->request(GET => "/v1/runs/$id");
    is($res->{status}, 401, 'nobody without a key');
    is(ref $res->{json}{error}, '', 'in the shape of these routes');
    is($res->{json}{code}, 'unauthorized', 'with a code');
    is($brood->request(POST => '/v1/runs', body => {cmd => 'true', namespace_id => 'other'}, auth($ci))->{status}, 403, 'a stored run in a namespace of others');
    is($brood->request(POST => '/v1/runs', body => {cmd => 'true', limits => {timeout_ms => 1501}}, auth($small))->{status}, 400, 'and over a ceiling');
    is($brood->request(POST => '/v1/runs', body => {cmd => 'true'}, auth($small))->{json}{limits}{timeout_ms}, 1500, 'which is what is effective');
    is($brood->request(GET => '/v1/namespaces', auth($alice))->{status}, 403, 'the scope namespaces');
    my @seen = map { $_->{id} } @{$brood->request(GET => '/v1/namespaces', auth($files))->{json}{namespaces}};
    ok(@seen > 0 && !grep({ !/^ci-/ } @seen), "of the namespaces only its own are listed: @seen");
    my @pages = map { $brood->request(GET => "/v1/namespaces?limit=1$_", auth($files))->{json} } '', '&after=a', '&after=zzz';
    is_deeply([map { $_->{next} } @pages], [((@seen > 1 ? $seen[0] : undef) x 2), undef], "no page's end names another's namespace");
    is_deeply([map { map { $_->{id} } @{$_->{namespaces}} } @pages], [@seen[0, 0]], 'and a page holds what it may');
    is($brood->request(PUT => '/v1/namespaces/ci-1/files/note', body => 'x', headers => {Authorization => "Bearer $files", 'Content-Type' => 'application/octet-stream'})->{status} =~ /^20/ ? 1 : 0, 1, 'a file may be put there');
    is($brood->request(GET => "/v1/namespaces/$_/files/", auth($files))->{status}, 403, "files of $_ are not to be had") for 'single', 's';
    is($brood->request(DELETE => '/v1/namespaces/single', auth($files))->{status}, 403, 'nor is it to be removed');
    my $conn = $brood->connect;
    $conn->put("PUT /v1/namespaces/single/files/x HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer $files\r\nContent-Length: 1000000\r\n\r\n");
    $res = $conn->get(5);
    is($res && $res->{status}, 403, 'an upload is refused before its body');
};

subtest 'ceilings' => sub {
    for (['timeout', {timeout => 1.501}], ['limits.timeout_ms', {limits => {timeout_ms => 1501}}], ['limits.memory_mb', {limits => {memory_mb => 65}}], ['limits.cpu_ms', {limits => {cpu_ms => 1001}}]) {
        my ($field, $more) = @$_;
        my ($status, $json) = as($brood, $small, 's', 'true', %$more);
        is($status, 400, "$field over the key's is refused");
        like($json->{error}{message}, qr/^\Q$field\E must be /, 'and named');
        is(status_of($brood, $alice, 's', 'true', %$more), 200, 'another key may');
    }
    is(status_of($brood, $small, 's', 'true', timeout => 1.5, limits => {memory_mb => 64, cpu_ms => 1000}), 200, 'what is not over it is fine');
    my (undef, $json) = as($brood, $small, 's', 'sleep 20');
    is($json->{reason}, 'timeout', 'who names no timeout gets it');
    cmp_ok($json->{wall_ms}, '<', 5000, "in time: $json->{wall_ms} ms");
    (undef, $json) = as($brood, $lean, 's', 'a=$(head -c 100M /dev/zero | tr "\0" x); echo ${#a}');
    is($json->{reason}, 'oom', 'nor more memory') or diag(explain($json));
    (undef, $json) = as($brood, $alice, 's', 'a=$(head -c 100M /dev/zero | tr "\0" x); echo ${#a}');
    is($json->{stdout}, "104857600\n", 'which is the key\'s, not the namespace\'s') or diag(explain($json));
    (undef, $json) = as($brood, $small, 's', 'ulimit -t');
    is($json->{stdout}, "1\n", 'nor more processor time');
};

subtest 'the log knows who, not how' => sub {
    as($brood, $alice, 'logged');
    ok($brood->wait_log(qr/"event":"run",.*"ns":"logged",.*"key":"alice"/), 'the label in the line of the run');
    ok($brood->wait_log(qr/"event":"request",.*"ns":"logged",.*"key":"alice"/), 'and of the request');
    my (@lines) = grep { ($_->{event} // '') eq 'request' && ($_->{status} // 0) == 401 && $_->{key} && $_->{key} ne 'old' && $_->{key} ne 'brief' } $brood->log_lines;
    is(scalar @lines, 0, 'who is not known has no label');
};

subtest 'wrong tokens by the thousand' => sub {
    my $conn = $brood->connect(via => 'tcp');
    my $n = 4000;
    my $good = sub { my $t = time; status_of($brood, $alice, 'steady', 'true') == 200 or return 9; return time - $t };
    $good->() for 1 .. 5;
    my (@times, $refused);
    for my $round (1 .. 40) {
        my $count = $n / 40;
        $conn->put(join '', map { Brood::Conn->request(POST => '/execute', body => {namespace_id => 'a', cmd => 'true'}, auth("brood_" . sha256_hex("$round-$_"))) } 1 .. $count);
        push @times, $good->() for 1 .. 2;
        for (1 .. $count) { my $res = $conn->get(10); $refused++ if $res && $res->{status} == 401 }
    }
    is($refused, $n, "$n are refused");
    cmp_ok(median(@times), '<', 0.1, sprintf 'who has a key is served meanwhile: median %.1f ms', 1000 * median(@times));
};

subtest 'reload' => sub {
    my $running = $brood->connect;
    $running->put(Brood::Conn->request(POST => '/execute', body => {namespace_id => 'long', cmd => 'touch long-runs; until [ -e go ]; do :; done; echo undisturbed', timeout => 60}, auth($alice)));
    ok($brood->wait_file('long-runs'), 'a run of alice is on');
    my ($new, $new_entry) = key('new');
    ok(reload($brood, "keys:\n$new_entry", 'keys'), 'other keys are taken');
    ok(until_true(5, sub { status_of($brood, $new, 'n') == 200 }), 'a key that was added is good');
    is(status_of($brood, $alice, 'n'), 401, 'one that was taken out is not');
    spew($brood->find('long-runs') =~ s/long-runs$/go/r, '');
    my $res = $running->get(20);
    is($res && $res->{json}{stdout}, "undisturbed\n", 'what it had running goes on');
    for (['no YAML', "keys: [\n"], ['an unknown member', "keys:\n$new_entry    colour: red\n"], ['a label twice', "keys:\n$new_entry$new_entry"]) {
        my ($what, $text) = @$_;
        ok(reload($brood, $text, 'keys_kept'), "$what is named");
        like((grep { ($_->{event} // '') eq 'keys_kept' } $brood->log_lines)[-1]{error}, qr/keys\.yaml/, 'with its file');
        is(status_of($brood, $new, 'n'), 200, 'and the old keys stay');
    }
    unlink "$brood->{dir}/keys.yaml";
    my $kept = sub { scalar grep { ($_->{event} // '') eq 'keys_kept' } $brood->log_lines };
    my $before = $kept->();
    $brood->signal('HUP');
    ok(until_true(10, sub { $kept->() > $before }), 'so is a file that is gone');
    is(status_of($brood, $new, 'n'), 200, 'and the old keys stay');
    kill KILL => $brood->pids('frontend');
    ok(until_true(10, sub { (status_of($brood, $new, 'n') // 0) == 200 }), 'a frontend that is started anew has them, too');
    is(status_of($brood, $alice, 'n'), 401, 'and no others');
    ok(reload($brood, "keys:\n", 'keys'), 'a file without a key is taken');
    ok(until_true(5, sub { status_of($brood, $new, 'n') == 401 }), 'and lets nobody in');
    is(($brood->execute({namespace_id => 'a', cmd => 'true'}))[0], 401, 'also who has none');
    my @entries = map { [key("many-$_")] } 1 .. 200;
    ok(reload($brood, "keys:\n" . join('', map { $_->[1] } @entries), 'keys'), 'many keys');
    is(status_of($brood, $entries[-1][0], 'n'), 200, 'the last of them works');
    $brood->signal('HUP') for 1 .. 50;
    is(status_of($brood, $entries[0][0], 'n'), 200, 'fifty reloads at once do no harm');
    keeps_secrets($brood);
};
$brood->stop;

subtest 'API_KEYS' => sub {
    my ($x, $y, $z) = map { "sixteen-or-more-$_" } qw(x y z);
    push @tokens, $x, $y, $z;
    my $brood = Brood->start(env => {API_KEYS => "$x:xavier:5:2, $y:yves"}, config => "log:\n  format: json\n");
    is(status_of($brood, $x, 'a'), 200, 'a token of the list');
    is(status_of($brood, $y, 'a'), 200, 'another, without a rate');
    is((as($brood, $x, 'a'))[2]{'ratelimit-limit'}, 2, 'the burst');
    is(status_of($brood, "$x:xavier", 'a'), 401, 'a token is what stands before the colon');
    is(status_of($brood, $z, 'a'), 401, 'no other');
    $brood->signal('HUP');
    ok($brood->wait_log(qr/"event":"reloaded"/) && until_true(5, sub { status_of($brood, $y, 'a') == 200 }), 'they stay over a reload');
    ok(until_true(5, sub { 2 <= grep { ($_->{event} // '') eq 'keys' } $brood->log_lines }), 'which reads the keys again');
    is(status_of($brood, $y, 'a', 'env | grep -c API_KEYS; cat /proc/*/environ 2>/dev/null | grep -c sixteen; true'), 200, 'a run looks for them');
    is((as($brood, $y, 'a', 'env | grep -c API_KEYS; cat /proc/*/environ 2>/dev/null | tr "\0" "\n" | grep -c sixteen; true'))[1]{stdout}, "0\n0\n", 'and finds none');
    keeps_secrets($brood);
    $brood->stop;
    my ($file_key, $entry) = key('of-the-file');
    $brood = start_with($entry, 'api-keys' => "$z:zoe");
    is(status_of($brood, $z, 'a'), 200, 'as a flag, beside a file');
    is(status_of($brood, $file_key, 'a'), 200, 'whose keys are good, too');
    keeps_secrets($brood);
    $brood->stop;
};

sub refused {
    my ($what, $like, $unlike, %opt) = @_;
    my $brood = Brood->start(ready => 0, %opt);
    my $ended = $brood->wait_exit(10);
    my $said = slurp($brood->{log}) // '';
    local $Test::Builder::Level = $Test::Builder::Level + 1;
    ok($ended && $brood->{status} != 0 && $said =~ $like && !($unlike && $said =~ $unlike), "$what stops the start, with its place") or diag($said);
    ok(!-e $brood->{fs_root}, 'before anything was done');
}

subtest 'what stops the start' => sub {
    my $dir = Brood::_temp_dir();
    my $file = sub { spew("$dir/k.yaml", @_); return ('key-file' => "$dir/k.yaml") };
    my (undef, $entry) = key('a');
    refused('a file that is not there', qr{key file /tmp/none/k\.yaml: No such file}, undef, 'key-file' => '/tmp/none/k.yaml');
    refused('a bad file', qr/k\.yaml:2: keys: .*colour/, undef, $file->("keys:\n  - colour: red\n"));
    refused('a token for a hash', qr/k\.yaml:3: sha256: expected/, qr/brood_secret/, $file->("keys:\n  - label: a\n    sha256: brood_secret\n"));
    refused('a label twice', qr/k\.yaml: the label a stands twice/, undef, $file->("keys:\n$entry$entry"));
    refused('a directory', qr/expected a file/, undef, 'key-file' => $dir);
    refused('a short token', qr/api_keys \(API_KEYS\): entry 2: expected a token of 16/, qr/short-one|long-enough/, env => {API_KEYS => 'long-enough-token:a,short-one:b'});
    refused('a bad rate', qr/api_keys \(API_KEYS\): entry 1 \(a\): expected requests/, qr/long-enough/, env => {API_KEYS => 'long-enough-token:a:fast'});
    refused('a label of both', qr/the label a stands twice/, undef, $file->("keys:\n$entry"), env => {API_KEYS => 'long-enough-token:a'});
};

subtest 'brood key' => sub {
    my $dir = Brood::_temp_dir();
    my $run = sub { my $out = `$brood_bin key @_ 2>$dir/err`; return ($? >> 8, $out, slurp("$dir/err")) };
    my ($status, $token, $said) = $run->("new --file $dir/keys.yaml --label tool --namespaces 'tool-*' --rate 100");
    chomp $token;
    push @tokens, $token;
    is($status, 0, 'a key is made') or diag($said);
    like($token, qr/^brood_[A-Za-z0-9_-]{43}$/, 'its token is all of stdout');
    like($said, qr/SIGHUP/, 'how it comes into force is told');
    is((stat "$dir/keys.yaml")[2] & 07777, 0600, 'the file is its owner\'s');
    my $text = slurp("$dir/keys.yaml");
    ok(index($text, $token) < 0 && index($text, sha256_hex($token)) > 0, 'and has the hash only');
    my $brood = Brood->start('key-file' => "$dir/keys.yaml");
    is(status_of($brood, $token, 'tool-1'), 200, 'it works');
    is(status_of($brood, $token, 'other'), 403, 'as far as it should');
    my ($again) = $run->("new --file $dir/keys.yaml --label tool");
    is($again, 1, 'a label is taken once');
    is((stat "$dir/keys.yaml")[7], length $text, 'and the file as it was');
    like(($run->("list --file $dir/keys.yaml"))[1], qr/^tool +execute,runs,files +tool-\* +100\/s\+100 +never$/, 'list');
    is_deeply([sort map { $_->{label} } @{Mojo::JSON::decode_json(($run->("list --json --file $dir/keys.yaml"))[1])}], ['tool'], 'list --json');
    chmod 0640, "$dir/keys.yaml";
    my @pids = map { my $n = $_; my $pid = fork // die; if (!$pid) { open STDOUT, '>', "$dir/out$n"; open STDERR, '>', '/dev/null'; exec $brood_bin, qw(key new --file), "$dir/keys.yaml", '--label', "n$n" } $pid } 1 .. 20;
    my $good = grep { waitpid($_, 0); $? == 0 } @pids;
    is($good, 20, 'twenty at once are made');
    is(scalar(() = ($run->("list --file $dir/keys.yaml"))[1] =~ /^n\d+ /mg), 20, 'and all are in the file');
    is((stat "$dir/keys.yaml")[2] & 07777, 0640, 'which keeps its mode');
    is_deeply([grep { !m{/(?:keys\.yaml|err|out\d+)$} } glob "$dir/*"], [], 'and nothing beside it');
    ($status, undef, $said) = $run->("revoke tool n1 n20 --file $dir/keys.yaml");
    is($status, 0, 'three are revoked') or diag($said);
    my ($reload) = slurp(Brood->root . '/README.md') =~ /brood key revoke .* && (pkill .*)/;
    is(system("$reload -g $brood->{pid}"), 0, "README's $reload finds somebody (here: of this service)");
    ok(until_true(5, sub { status_of($brood, $token, 'tool-1') == 401 }), 'after SIGHUP it opens nothing');
    chomp(my $n7 = slurp("$dir/out7"));
    push @tokens, $n7;
    is(status_of($brood, $n7, 'x'), 200, 'the others do');
    is(($run->("revoke tool --file $dir/keys.yaml"))[0], 1, 'what is not there cannot be revoked');
    is(($run->("$_ --file $dir/keys.yaml"))[0], 2, "used wrongly: $_") for 'new', 'new --label "a b"', 'new --label x --scopes all', 'new --label x --expires soon', 'new --label x extra', 'revoke', 'list --label x';
    is(($run->('list --file /nowhere/k'))[0], 1, 'no file to list');
    keeps_secrets($brood);
    $brood->stop;
};

subtest 'etc/keys.yaml is true' => sub {
    my $brood = Brood->start('key-file' => Brood::root() . '/etc/keys.yaml');
    ok($brood->wait_log(qr/"event":"keys","count":2/) || $brood->wait_log(qr/"event":"keys".*"count":2/), 'it can be used as it is');
    is(($brood->execute({namespace_id => 'a', cmd => 'true'}))[0], 401, 'and lets nobody in');
    $brood->stop;
};

done_testing;
