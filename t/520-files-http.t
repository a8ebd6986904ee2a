# SPDX-License-Identifier: Apache-2.0
# The files of a namespace over HTTP: every method, every way to misspell a path, whatever a tenant can lay in the
# way, and the order beside runs.
use lib 't/lib';
use Brood;
use Digest::SHA qw(sha256_hex);
use MIME::Base64 qw(decode_base64);
use Mojo::JSON qw(decode_json);
use Time::HiRes qw(time);

my $brood = Brood->start(tcp => 1);
my $files = '/v1/namespaces/alice/files';

sub ask {
    my ($method, $path, %opt) = @_;
    return $brood->request($method, $path =~ m{^/(?:v1|health)} ? $path : "$files/$path", %opt) // {status => 0, headers => {}, body => ''};
}

# A request that must fail like that, in JSON.
sub refused {
    my ($what, $status, $code, @request) = @_;
    my $res = ask(@request);
    local $Test::Builder::Level = $Test::Builder::Level + 1;
    my $error = ref $res->{json} eq 'HASH' ? $res->{json}{error} : undef;
    ok($res->{status} == $status && ref $error eq 'HASH' && $error->{code} eq $code && length $error->{message}, "$what: $status $code")
      or diag "got $res->{status}: $res->{body}";
}

sub names {
    return [map { $_->{name} } @{($_[0]{json} // {})->{entries} // []}];
}

subtest 'a file comes, is read, and goes' => sub {
    my $res = ask(PUT => 'docs/a.txt', body => 'hello');
    is($res->{status}, 200, 'PUT makes the file and its directory');
    is_deeply([@{$res->{json}}{qw(name type size mode)}], ['a.txt', 'file', 5, '644'], 'and says what is there now');
    like($res->{json}{modified_at}, qr/^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z$/, 'since when');
    $res = ask(GET => 'docs/a.txt');
    is($res->{body}, 'hello', 'GET gives the bytes');
    is($res->{headers}{'content-type'}, 'application/octet-stream', 'as bytes');
    is($res->{headers}{'x-content-type-options'}, 'nosniff', 'that are nothing else');
    is($res->{headers}{'content-disposition'}, q{attachment; filename="a.txt"; filename*=UTF-8''a.txt}, 'to be saved');
    my $etag = $res->{headers}{etag};
    $res = ask(HEAD => 'docs/a.txt');
    is_deeply([$res->{status}, $res->{headers}{'content-length'}, $res->{headers}{etag}], [200, 5, $etag], 'HEAD says the same');
    is(ask(GET => '/health')->{status}, 200, 'without a body');
    is(ask(GET => 'docs/a.txt', headers => {'If-None-Match' => $etag})->{status}, 304, 'known already');
    is(ask(GET => 'docs/a.txt', headers => {'If-None-Match' => '"other"'})->{status}, 200, 'not known');
    is(ask(PUT => 'docs/a.txt', body => 'HELLO')->{status}, 200, 'PUT replaces');
    isnt(ask(GET => 'docs/a.txt')->{headers}{etag}, $etag, 'which changes the ETag');
    is($brood->sh(alice => 'cat docs/a.txt; stat -c %a%u docs/a.txt')->{stdout}, "HELLO6441000\n", 'a run sees it as its own');
    is(ask(PUT => 'bin/tool?mode=755', body => "#!/bin/sh\necho ran\n")->{json}{mode}, '755', 'mode=755');
    is($brood->sh(alice => 'bin/tool')->{stdout}, "ran\n", 'can be run');
    refused('another mode', 400, 'bad_request', PUT => 'x?mode=4755', body => '');
    is(ask(PUT => 'empty/')->{status}, 200, 'a slash at the end makes a directory');
    refused('that has no bytes', 400, 'bad_request', PUT => 'empty/', body => 'x');
    refused('not empty', 409, 'not_empty', DELETE => 'docs');
    is(ask(DELETE => 'empty')->{status}, 200, 'DELETE of an empty directory');
    is(ask(DELETE => 'docs/a.txt')->{status}, 200, 'DELETE of a file');
    refused('it is gone', 404, 'not_found', GET => 'docs/a.txt');
    refused('again', 404, 'not_found', DELETE => 'docs/a.txt');
    ask(PUT => "tree/$_/f", body => $_) for 1 .. 3;
    is(ask(DELETE => 'tree?recursive=1')->{status}, 200, 'a whole tree');
    refused('is gone', 404, 'not_found', GET => 'tree/');
    refused('/work itself stays', 400, 'bad_request', DELETE => '?recursive=1');
    refused('POST', 405, 'method_not_allowed', POST => 'x', body => '');
    is(ask(POST => 'x', body => '')->{headers}{allow}, 'GET, HEAD, PUT, DELETE', 'Allow says what there is');
};

subtest 'ranges' => sub {
    ask(PUT => 'r', body => '0123456789');
    for (['bytes=0-3', 206, '0123', 'bytes 0-3/10'], ['bytes=4-', 206, '456789', 'bytes 4-9/10'], ['bytes=-2', 206, '89', 'bytes 8-9/10'],
        ['bytes=8-99', 206, '89', 'bytes 8-9/10'], ['bytes=-99', 206, '0123456789', 'bytes 0-9/10'], ['bytes=9-9', 206, '9', 'bytes 9-9/10'],
        ['bytes=5-4', 200, '0123456789'], ['bytes=0-1,3-4', 200, '0123456789'], ['lines=0-1', 200, '0123456789'], ['bytes=', 200, '0123456789'],
        ['bytes=a-b', 200, '0123456789'], ['bytes=99999999999999999999-', 200, '0123456789']) {
        my ($range, $status, $body, $content) = @$_;
        my $res = ask(GET => 'r', headers => {Range => $range});
        is_deeply([@$res{qw(status body)}, $res->{headers}{'content-range'}], [$status, $body, $content], "Range: $range");
    }
    for my $range ('bytes=10-', 'bytes=-0') {
        my $res = ask(GET => 'r', headers => {Range => $range});
        is_deeply([$res->{status}, $res->{headers}{'content-range'}], [416, 'bytes */10'], "Range: $range");
    }
    is(ask(GET => 'r', headers => {Range => 'bytes=0-3', 'If-Range' => '"other"'})->{status}, 200, 'If-Range of another: all of it');
    is(ask(GET => 'r', headers => {Range => 'bytes=0-3', 'If-Range' => ask(HEAD => 'r')->{headers}{etag}})->{status}, 206, 'If-Range of this one');
    is(ask(HEAD => 'r', headers => {Range => 'bytes=0-3'})->{headers}{'content-length'}, 4, 'HEAD of a range');
    ask(PUT => 'e', body => '');
    is_deeply([@{ask(GET => 'e')}{qw(status body)}], [200, ''], 'an empty file');
    is(ask(GET => 'e', headers => {Range => 'bytes=0-'})->{status}, 416, 'has no range');
};

subtest 'paths that are none' => sub {
    for ('..', '../x', 'a/../b', 'a/..', '%2e%2e/x', '%2E%2E', '.', './x', 'a/./b', '%2e', '//', '/x', 'a//b', 'a%2fb', 'a%2F', '%2f', '%00', 'a%00b',
        '%', '%4', '%zz', 'a%2', '../../../../etc/passwd', '%2e%2e%2f%2e%2e%2fetc%2fpasswd', 'x' x 256, join('/', ('x' x 200) x 21), 'x/' x 2100) {
        refused("GET " . substr($_, 0, 40), 400, 'bad_request', GET => $_);
        refused("PUT " . substr($_, 0, 40), 400, 'bad_request', PUT => $_, body => 'x');
        refused("DELETE " . substr($_, 0, 40), 400, 'bad_request', DELETE => "$_?recursive=1");
    }
    refused("namespace $_", 400, 'bad_request', GET => "/v1/namespaces/$_/files/x") for '.', '..', '-a', '.x', 'a%20b', 'a%2fb', '%61', 'x' x 65;
    refused('no namespace', 404, 'not_found', GET => '/v1/namespaces//files/x');
    refused('another spelling', 404, 'not_found', GET => $_) for '/v1/namespaces/alice/files', '/v1//namespaces/alice/files/x', '/v1/namespaces/alice/Files/x';
    refused("$_ of a namespace that is not there", 404, 'not_found', $_ => '/v1/namespaces/nobody/files/x') for qw(GET DELETE);
    refused('its listing', 404, 'not_found', GET => '/v1/namespaces/nobody/files/');
    ok(!grep({ $_ eq 'nobody' } $brood->volumes), 'asking does not make it');
    refused('a query that is broken', 400, 'bad_request', GET => "?$_") for 'limit=0', 'limit=1001', 'limit=x', 'limit=', 'recursive=2', 'after=%00', 'after=%zz';
};

subtest 'names of any bytes' => sub {
    my %odd = ('a b' => 'a%20b', "new\nline" => 'new%0Aline', "quote\"\\" => 'quote%22%5C', "\xff\xfe" => '%FF%FE', "\xc3\xa4" => '%C3%A4',
        'semi;colon' => 'semi;colon', "\x01\x7f" => '%01%7F', '%2e' => '%252e', '+' => '+', '?#' => '%3F%23', 'x' x 255 => 'x' x 255, ' ' => '%20',
        '-rf' => '-rf', '$(reboot)' => '$(reboot)', "\xed\xa0\x80" => '%ED%A0%80', '...' => '...', '.hidden' => '.hidden');
    for my $name (sort keys %odd) {
        my $res = ask(PUT => "odd/$odd{$name}", body => "content of $name");
        is($res->{status}, 200, "PUT $odd{$name}") or diag $res->{body};
        $res = ask(GET => "odd/$odd{$name}");
        is($res->{body}, "content of $name", "GET $odd{$name}");
        unlike($res->{headers}{'content-disposition'}, qr/[^ -~]/, 'a header of plain characters');
    }
    my $list = ask(GET => 'odd/');
    my @got = map { defined $_->{name_base64} ? decode_base64($_->{name_base64}) : do { my $n = $_->{name}; utf8::encode($n); $n } } @{$list->{json}{entries}};
    is_deeply(\@got, [sort keys %odd], 'the listing names each of them exactly, in the order of their bytes');
    is($list->{json}{next}, undef, 'and that is all');
    for my $name (sort keys %odd) {
        is(ask(DELETE => "odd/$odd{$name}")->{status}, 200, "DELETE $odd{$name}");
    }
    is_deeply(names(ask(GET => 'odd/')), [], 'nothing is left');
};

subtest 'what a tenant lays in the way' => sub {
    spew("$brood->{dir}/secret", 'secret');
    $brood->sh(alice => 'mkdir -p trap/real trap/dir && cd trap && echo real > real/f && ln -s real inner && ln -s /etc outer && ln -s /etc/passwd file &&
        ln -s ../../.. up && ln -s f2 real/loop && ln -s loop real/f2 && ln -s nowhere dangling && mkfifo fifo && echo h > hard &&
        mkdir closed && echo x > closed/f && chmod 000 closed && echo y > mode0 && chmod 000 mode0');
    $brood->sh(alice => 'python3 -c "import socket; socket.socket(socket.AF_UNIX).bind(\"trap/sock\")"');
    refused("GET $_", 409, 'symbolic_link', GET => "trap/$_") for qw(inner inner/f outer/passwd file up up/etc/passwd real/loop dangling);
    refused("PUT $_", 409, 'symbolic_link', PUT => "trap/$_", body => 'x') for qw(inner/f outer/brood up/x dangling/x);
    refused("DELETE $_", 409, 'symbolic_link', DELETE => "trap/$_?recursive=1") for qw(inner/f outer/passwd up/etc);
    refused("GET $_", 409, 'not_a_file', GET => "trap/$_") for qw(fifo sock);
    refused('GET of a file that its owner closed', 403, 'forbidden', GET => 'trap/mode0');
    refused('GET in a directory that its owner closed', 403, 'forbidden', GET => 'trap/closed/f');
    is(ask(PUT => 'trap/file', body => 'mine')->{status}, 200, 'PUT over a link');
    is($brood->sh(alice => 'test ! -L trap/file && cat trap/file; head -c 4 /etc/passwd')->{stdout}, 'mineroot', 'replaces the link, not its target');
    is(ask(PUT => 'trap/fifo', body => 'mine')->{status}, 200, 'PUT over a FIFO');
    is($brood->sh(alice => 'test -f trap/fifo && cat trap/fifo')->{stdout}, 'mine', 'replaces it');
    refused('PUT over a directory', 409, 'is_a_directory', PUT => 'trap/real', body => 'x');
    refused('PUT below a file', 404, 'not_found', PUT => 'trap/hard/x', body => 'x');
    is(ask(DELETE => 'trap/outer')->{status}, 200, 'DELETE of a link');
    ok(-e '/etc/passwd', 'is not of its target');
    is(ask(DELETE => 'trap/inner?recursive=1')->{status}, 200, 'nor when it is recursive');
    is($brood->sh(alice => 'cat trap/real/f')->{stdout}, "real\n", 'what it led to is there');
    my %kind = map { $_->{name} => $_->{type} } @{ask(GET => 'trap/')->{json}{entries}};
    is_deeply([@kind{qw(up sock hard real)}], [qw(link other file directory)], 'a listing says what each is');
    is(ask(DELETE => 'trap?recursive=1')->{status}, 200, 'all of it goes');
};

subtest 'huge' => sub {
    $brood->sh(alice => 'truncate -s 1T sparse; mkdir -p many; cd many; for i in {1..5000}; do : > "file-$i"; done', timeout => 60);
    my $res = ask(HEAD => 'sparse');
    SKIP: {
        skip 'no 1 TiB files here', 2 if $res->{status} != 200 || $res->{headers}{'content-length'} < 1 << 40;
        is(ask(GET => 'sparse', headers => {Range => 'bytes=-3'})->{body}, "\0\0\0", 'a range of 1 TiB of nothing');
        my $conn = $brood->connect;
        $conn->put(Brood::Conn->request(GET => "$files/sparse"));
        ok($conn->readable(5), 'it begins');
        $conn->close;
    }
    my (@names, $after);
    for (1 .. 100) {
        my $page = ask(GET => 'many/?limit=700' . (defined $after ? "&after=$after" : ''));
        is($page->{status}, 200, "page $_");
        push @names, @{names($page)};
        cmp_ok(scalar @{names($page)}, '<=', 700, 'not longer than asked for');
        last unless defined($after = $page->{json}{next});
    }
    is_deeply(\@names, [sort map { "file-$_" } 1 .. 5000], '5,000 entries in pages, each once');
    is(ask(GET => 'many')->{status}, 200, 'without the slash as well');
    my $all = ask(GET => '?recursive=1&limit=1000');
    ok((grep { $_->{name} eq 'many/file-1' } @{$all->{json}{entries}}), 'recursive=1 names what is below');
    is(ask(DELETE => 'many?recursive=1')->{status}, 200, 'they go');
    ask(PUT => join('/', ('long' x 60) x 12) . '/f', body => 'deep');
    my $deep = ask(GET => '?recursive=1');
    ok((grep { length $_->{name} > 2800 } @{$deep->{json}{entries}}), 'a deep path has its name');
    ask(DELETE => 'long' x 60 . '?recursive=1');
    $brood->sh(alice => 'rm -f sparse');
};

subtest 'a page is cut when it is large' => sub {
    $brood->sh(alice => 'mkdir -p wide; cd wide; printf -v b "\\001%.0s" {1..240}; for i in {1..900}; do : > "$(printf %04d $i)$b"; done', timeout => 60);
    my (@names, $after, $pages);
    for (1 .. 20) {
        my $page = ask(GET => 'wide/?limit=1000' . (defined $after ? "&after=$after" : ''));
        cmp_ok(length $page->{body}, '<', 1 << 21, 'a page of at most 1 MiB and an entry');
        push @names, @{names($page)};
        $pages++;
        last unless defined($after = $page->{json}{next});
        $after =~ s/([^0-9])/sprintf '%%%02X', ord $1/ge;
    }
    is(scalar @names, 900, 'all entries');
    cmp_ok($pages, '>', 1, 'on more than one page');
    ask(DELETE => 'wide?recursive=1');
};

subtest 'a PUT is seen whole or not at all' => sub {
    ask(PUT => 'atomic', body => 'a' x 200_000);
    my $reader = $brood->post(alice => 'for i in {1..300}; do d=$(tr -s ab < atomic); case $d in a|b) ;; *) echo "torn: ${d:0:50}";; esac; done; echo end');
    my $writer = $brood->connect;
    for my $n (1 .. 20) {
        my $letter = $n % 2 ? 'b' : 'a';
        $writer->put(Brood::Conn->request(PUT => "$files/atomic", body => $letter x 200_000));
        is(($writer->get // {})->{status}, 200, "write $n");
    }
    is($brood->result($reader)->{stdout}, "end\n", 'no reader saw a mix');
    my $gone = $brood->connect(via => 'tcp');
    $gone->put("PUT $files/atomic HTTP/1.1\r\nHost: brood\r\nContent-Length: 200000\r\n\r\n" . 'c' x 100_000);
    $gone->close;
    like(ask(GET => 'atomic')->{body}, qr/^a+$/, 'a client that leaves in the middle changes nothing');
    is_deeply([grep { /put/ } @{names(ask(GET => ''))}], [], 'and leaves nothing behind');
};

subtest 'order beside runs' => sub {
    my $run = $brood->post(alice => 'echo begun > begun; until [ -e go ]; do read -t 0.01 < <(:) ; [ $SECONDS -lt 5 ] || break; done; cat order; echo one >> order');
    $brood->wait_file('begun');
    my $put = $brood->connect;
    $put->put(Brood::Conn->request(PUT => "$files/order", body => "put\n"));
    my $second = $brood->post(alice => 'cat order');
    my $get = $brood->connect;
    $get->put(Brood::Conn->request(GET => "$files/order"));
    ok(!$put->readable(0.3), 'a PUT waits for the run before it');
    spew($brood->find('begun') =~ s/begun$/go/r, '');
    is(($put->get // {})->{status}, 200, 'then it is done');
    is($brood->result($second)->{stdout}, "put\n", 'the run behind it sees it');
    is(($get->get // {})->{body}, "put\n", 'and so does a GET');
    is(ask(PUT => 'seen', body => $_)->{status} . $brood->sh(alice => 'cat seen')->{stdout}, "200$_", "PUT, then execute: $_") for 1 .. 10;
};

subtest 'a file that changes while it is read' => sub {
    my $size = 60 << 20;
    $brood->sh(alice => "head -c $size /dev/zero > shrinking");
    my $conn = $brood->connect;
    $conn->put(Brood::Conn->request(GET => "$files/shrinking"));
    ok($conn->readable(5), 'it begins');
    $brood->sh(alice => ': > shrinking');
    my $res = $conn->get(20);
    ok(!$res && $conn->{why} eq 'closed', 'cut short by a run: the connection breaks') or diag $res ? length $res->{body} : $conn->{why};
};

subtest 'limits' => sub {
    my $tight = Brood->start('limits-fsize-mb' => 2);
    my $res = $tight->request(PUT => '/v1/namespaces/t/files/f', body => 'x' x (3 << 20));
    is_deeply([$res->{status}, $res->{json}{error}{code}], [413, 'too_large'], 'a file larger than the policy allows') or diag $res->{body};
    is($tight->request(GET => '/v1/namespaces/t/files/f')->{status}, 404, 'is not there');
    is($tight->request(PUT => '/v1/namespaces/t/files/f', body => 'x' x (1 << 20))->{status}, 200, 'a smaller one is');
    $tight->stop;
};

subtest 'namespaces' => sub {
    $brood->request(PUT => "/v1/namespaces/$_/files/f", body => $_) for qw(n1 n2 n3);
    my $list = ask(GET => '/v1/namespaces');
    is_deeply([map { $_->{id} } @{$list->{json}{namespaces}}], [qw(alice n1 n2 n3)], 'a list');
    is_deeply($list->{json}{namespaces}[1], {id => 'n1', active => Mojo::JSON->true, queued => 0}, 'with what they do');
    $list = ask(GET => '/v1/namespaces?limit=2');
    is_deeply([[map { $_->{id} } @{$list->{json}{namespaces}}], $list->{json}{next}], [[qw(alice n1)], 'n1'], 'in pages');
    $list = ask(GET => '/v1/namespaces?limit=2&after=n1');
    is_deeply([[map { $_->{id} } @{$list->{json}{namespaces}}], $list->{json}{next}], [[qw(n2 n3)], undef], 'to the end');
    refused("?$_", 400, 'bad_request', GET => "/v1/namespaces?$_") for 'limit=0', 'limit=1001', 'after=..', 'after=%00';
    is(ask(DELETE => '/v1/namespaces/n2')->{status}, 200, 'one goes');
    refused('again', 404, 'not_found', DELETE => '/v1/namespaces/n2');
    refused('its files', 404, 'not_found', GET => '/v1/namespaces/n2/files/f');
    my $run = $brood->post(n3 => 'echo > busy; until [ -e go ]; do read -t 0.01 < <(:); [ $SECONDS -lt 5 ] || break; done');
    $brood->wait_file('busy');
    refused('one that is busy', 409, 'busy', DELETE => '/v1/namespaces/n3');
    spew($brood->find('busy') =~ s/busy$/go/r, '');
    $brood->result($run);
    is(ask(DELETE => '/v1/namespaces/n3')->{status}, 200, 'afterwards it goes');
};

is_deeply([grep { ($_->{level} // '') eq 'error' } $brood->log_lines], [], 'nothing in the log is an error');
$brood->stop;
done_testing;
