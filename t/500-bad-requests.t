# SPDX-License-Identifier: Apache-2.0
# Requests that are wrong, unfinished or too many: the right status, a JSON body that names the field,
# nothing run, nothing created, and the next request works.
use lib 't/lib';
use Brood;
use Mojo::JSON qw(decode_json encode_json);
use Time::HiRes qw(time);

my $brood = Brood->start(tcp => 1, 'runs-timeout-max' => '5s', 'http-request-timeout' => '600ms', 'http-idle-timeout' => '900ms',
    'http-connections-max' => 40);

# One request that must be refused: status, the word its message contains.
sub refused {
    my ($what, $status, $field, $body, %opt) = @_;
    my $res = $brood->request(delete $opt{method} // 'POST', delete $opt{path} // '/execute', body => $body, %opt) // {status => 0};
    local $Test::Builder::Level = $Test::Builder::Level + 1;
    my $error = ref $res->{json} eq 'HASH' ? $res->{json}{error} : undef;
    my $code = ref $error eq 'HASH' ? $error->{code} // '' : '';
    my $message = ref $error eq 'HASH' ? $error->{message} // '' : '';
    ok($res->{status} == $status && $code =~ /^[a-z][a-z0-9_]*$/ && (!defined $field || $message =~ /\Q$field\E/),
        "$what: $status" . (defined $field ? ", naming $field" : ''))
      or diag("got $res->{status}: ", $res->{body} // 'no answer');
    return $res;
}

# A body that is right but for what is given.
sub body {
    return encode_json({namespace_id => 'victim', cmd => 'touch ran', @_});
}

subtest 'bodies' => sub {
    refused('no body', 400, undef, undef);
    refused('empty body', 400, undef, '');
    refused('not JSON', 400, undef, $_) for 'hello', '{', '{"namespace_id":"victim","cmd":"true"', '{"a":1,}', "{'a':1}", '[1 2]', "\xff\xfe", "\0";
    refused('garbage behind it', 400, undef, body() . 'x');
    refused("a body that is $_", 400, undef, $_) for '[]', '"text"', '42', 'null', 'true';
    refused('duplicate keys', 400, undef, '{"namespace_id":"victim","cmd":"touch ran","cmd":"true"}');
    refused('duplicate keys within env', 400, undef, '{"namespace_id":"victim","cmd":"touch ran","env":{"A":"1","A":"2"}}');
    refused('invalid UTF-8', 400, undef, qq({"namespace_id":"victim","cmd":"touch ran \xff"}));
    refused('a lone surrogate', 400, undef, '{"namespace_id":"victim","cmd":"touch ran \ud800"}');
    refused('nested beyond reason', 400, undef, '{"namespace_id":"victim","cmd":"touch ran","x":' . '[' x 100_000 . ']' x 100_000 . '}');
    refused('missing cmd', 400, 'cmd', '{"namespace_id":"victim"}');
    refused('missing namespace_id', 400, 'namespace_id', '{"cmd":"touch ran"}');
    refused('cmd and language', 400, undef, body(language => 'python', code => '1'));
    refused('NUL in cmd', 400, 'cmd', body(cmd => "touch ran\0"));
    refused('a cmd too long for argv', 400, 'cmd', body(cmd => 'true ' . 'x' x 131072));
};

subtest 'types' => sub {
    for (['cmd', [1, [], {}, undef, \1]], ['namespace_id', [1, [], {}, undef]], ['stdin', [1, [], {}]], ['env', [1, [], 'A=1', \0]],
        ['cwd', [1, [], {}]], ['timeout', ['1', [], {}, \1]], ['encoding', [1, [], {}]], ['limits', [1, [], 'x']]) {
        my ($field, $values) = @$_;
        refused("$field of a wrong type", 400, $field, body($field => $_)) for @$values;
    }
    refused('a value of env of a wrong type', 400, 'env', body(env => {A => $_})) for 1, [], {}, \1;
};

subtest 'values' => sub {
    for my $id ('', 'x' x 65, '../x', '.x', '..', '.', 'a/b', '/a', "a\0", "a\0b", "\x{e4}", "a\x{1f600}", 'a b', "a\n", '-a', 'a%2fb', '*') {
        (my $show = $id) =~ s/([^ -~])/sprintf '\\x{%x}', ord $1/ge;
        refused("namespace_id '$show'", 400, 'namespace_id', body(namespace_id => $id));
    }
    for my $timeout (-1, -0.001, 0, 5.1, 1e9, 1e300) {
        refused("timeout $timeout", 400, 'timeout', body(timeout => $timeout));
    }
    refused('timeout 1e999', 400, undef, '{"namespace_id":"victim","cmd":"touch ran","timeout":1e999}');
    refused('timeout NaN', 400, undef, '{"namespace_id":"victim","cmd":"touch ran","timeout":NaN}');
    refused("env name '$_->[0]'", 400, 'env', body(env => {$_->[1] => 'x'})) for ['A=B', 'A=B'], ['', ''], ['A\0', "A\0"], ['=', '='];
    refused('env value with NUL', 400, 'env', body(env => {A => "x\0y"}));
    refused('too many env', 400, 'env', body(env => {map { ("V$_" => 'x') } 1 .. 300}));
    refused('too large env', 400, 'env', body(env => {A => 'x' x 70_000}));
    refused("cwd '$_'", 400, 'cwd', body(cwd => $_)) for '/no/such/dir', '/../../nowhere', 'relative/missing', "/tmp\0", '/etc/passwd', '/' . 'x' x 5000;
    refused("encoding '$_'", 400, 'encoding', body(encoding => $_)) for 'utf-9', 'BASE64!', '';
};

subtest 'routes, methods, sizes, types' => sub {
    refused("$_ is not there", 404, undef, undef, method => 'GET', path => $_) for '/', '/nothing', '/execute/', '/executes', '/..%2f', '/health/x';
    my $res = refused('GET /execute', 405, undef, undef, method => 'GET');
    is($res->{headers}{allow}, 'POST', 'with Allow: POST');
    refused("$_ /execute", 405, undef, body(), method => $_) for qw(PUT DELETE PATCH);
    $res = refused('POST /health', 405, undef, '{}', path => '/health');
    like($res->{headers}{allow}, qr/\bGET\b/, 'with Allow: GET');
    refused("Content-Type $_", 415, undef, body(), headers => {'Content-Type' => $_}) for 'text/plain', 'multipart/form-data; boundary=x';
    $res = $brood->request(POST => '/execute', body => body(cmd => 'echo ok'), headers => {'Content-Type' => $_}) // {}
      and is(($res->{json} // {})->{stdout}, "ok\n", "Content-Type $_ is right") for 'application/json; charset=utf-8', 'Application/JSON';
    for my $via (qw(unix tcp)) {
        my $conn = $brood->connect(via => $via);
        $conn->put("POST /execute HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nContent-Length: 99999999999\r\n\r\n");
        my $answer = $conn->get(2);
        ok(!$answer || $answer->{status} == 413, "a huge Content-Length: 413, $via");
        $conn = $brood->connect(via => $via);
        $conn->put(Brood::Conn->request(POST => '/execute', body => body(stdin => 'x' x (1 << 20))));
        $answer = $conn->get(2);
        ok(!$answer || $answer->{status} == 413, "more than 1 MiB: 413, $via");
        is(($answer->{json} // {error => {code => 'none'}})->{error}{code} && 1, 1, 'with a JSON body') if $answer;
    }
    my $fits = body(cmd => 'wc -c', stdin => '');
    $fits = body(cmd => 'wc -c', stdin => 'x' x ((1 << 20) - length $fits));
    $res = $brood->request(POST => '/execute', body => $fits, headers => {'Content-Length' => 1 << 20});
    is($res->{status}, 200, 'a body of exactly 1 MiB is taken');
};

is_deeply([$brood->execute({namespace_id => 'control', cmd => 'echo ok'})]->[1]{stdout}, "ok\n", 'after all that it works');
is($brood->find('ran'), undef, 'nothing ran');
{
    my $count = sub { scalar grep { !/^\./ } $brood->volumes };
    my $n = $count->();
    ok(!-e "$brood->{fs_root}/$_", "no $_") for 'x' x 65, '.x', '-a', '..x';
    $brood->sh(brandnew => 'true');
    is($count->(), $n + 1, 'a request that is right creates a namespace');
    refused('one with a bad field', 400, 'timeout', body(namespace_id => 'never', timeout => -1));
    refused('one with a missing cwd', 400, 'cwd', body(namespace_id => 'brandnew', cwd => '/no/such'));
    is($count->(), $n + 1, 'a wrong one does not');
}

subtest 'framing' => sub {
    for my $via (qw(unix tcp)) {
        my $conn = $brood->connect(via => $via);
        $conn->put(join '', map { Brood::Conn->request(POST => '/execute', body => body(cmd => "echo $_")) } 1 .. 10);
        my @out = map { my $r = $conn->get(5); $r ? $r->{json}{stdout} : 'none' } 1 .. 10;
        is("@out", join(' ', map { "$_\n" } 1 .. 10), "ten pipelined requests, $via");

        my $body = body(cmd => 'echo chunked', stdin => 'x' x 3000);
        my $chunks = join '', map { sprintf "%x\r\n%s\r\n", length, $_ } unpack '(a700)*', $body;
        $conn = $brood->connect(via => $via);
        $conn->put(Brood::Conn->request(POST => '/execute', body => "${chunks}0\r\n\r\n", headers => {'Transfer-Encoding' => 'chunked'}));
        my $r = $conn->get(5);
        is($r && $r->{json}{stdout}, "chunked\n", "a chunked body, $via");

        $conn = $brood->connect(via => $via);
        for my $piece (unpack '(a40)*', Brood::Conn->request(POST => '/execute', body => body(cmd => 'echo pieces'))) {
            $conn->put($piece);
            select undef, undef, undef, 0.005;
        }
        $r = $conn->get(5);
        is($r && $r->{json}{stdout}, "pieces\n", "a request in small pieces, $via");
        for my $bad ("GARBAGE\r\n\r\n", "GET / HTTP/1.1\r\nHost x\r\n\r\n", "POST /execute HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n", "\0" x 100, "A" x 300_000) {
            $conn = $brood->connect(via => $via);
            $conn->put($bad, 1);
            my $answer = $conn->get(2);
            ok(!$answer || ($answer->{status} >= 400 && $answer->{status} < 500), 'no HTTP: refused or closed');
        }
    }
};

subtest 'slow and idle clients' => sub {
    my %opened = (
        'a header that never ends' => "POST /execute HTTP/1.1\r\nHost: x\r\nX-Slow: ",
        'a body that never comes' => "POST /execute HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nContent-Length: 60\r\n\r\n{",
        'a connection that says nothing' => '',
    );
    for my $via (qw(unix tcp)) {
        my %conns = map { ($_ => $brood->connect(via => $via)) } sort keys %opened;
        my $begin = time;
        $conns{$_}->put($opened{$_}) for keys %opened;
        ok($conns{$_}->closed(3), "$_: closed, $via") for keys %opened;
        cmp_ok(time - $begin, '<', 2.5, 'soon');
    }
    my $conn = $brood->connect;
    my $begin = time;
    my $drip = 0;
    until (time - $begin > 4) {
        last unless $conn->put($drip++ ? 'x' : "POST /execute HTTP/1.1\r\nX-Slow: ");
        last if $conn->readable(0.05);
    }
    cmp_ok(time - $begin, '<', 2.5, 'one byte at a time does not help');
    $conn = $brood->connect;
    $conn->put(Brood::Conn->request(POST => '/execute', body => body(cmd => 'sleep 1.5; echo patient')));
    my $r = $conn->get(5);
    is($r && $r->{json}{stdout}, "patient\n", 'waiting for an answer is not idling');
};

subtest 'too many connections' => sub {
    my @conns = grep { defined } map { $brood->connect } 1 .. 60;
    $_->put("POST /execute HTTP/1.1\r\nX: ") for @conns;
    my @served = grep { my $c = $_; !$c->readable(0.001) } @conns;
    cmp_ok(scalar @served, '<=', 41, scalar(@served) . ' of 60 are served at once');
    $_->close for @conns;
    my $r;
    ok(until_true(5, sub { $r = $brood->sh(control => 'echo ok'); $r->{http} == 200 }), 'afterwards there is room again');
};

is($brood->find('ran'), undef, 'still nothing ran');
$brood->stop;
done_testing;
