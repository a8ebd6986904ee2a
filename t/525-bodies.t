# SPDX-License-Identifier: Apache-2.0
# Bodies that are files: received whole or not at all, up to the limit and not beyond, refused before they
# were read where that is possible, and never more of them in memory than the service was told to hold.
use lib 't/lib';
use Brood;
use Digest::SHA qw(sha256_hex);
use Time::HiRes qw(time);

use constant MIB => 1 << 20;
my $brood = Brood->start(tcp => 1, 'files-upload-max-mb' => 64, 'files-uploads-held-mb' => 160);
my $path = '/v1/namespaces/up/files';

# Sends a request and its body in pieces; the answer.
sub upload {
    my ($name, $head, @pieces) = @_;
    my $conn = $brood->connect(via => 'tcp');
    $conn->put("PUT $path/$name HTTP/1.1\r\nHost: brood\r\n$head\r\n");
    $conn->put($_) for @pieces;
    return $conn->get // {status => 0, headers => {}};
}

sub content {
    my ($name) = @_;
    return ($brood->request(GET => "$path/$name") // {})->{body};
}

# Memory of the frontend that is its own or a memfd's, in KiB.
sub frontend_kb {
    my ($of) = @_;
    my ($pid) = $of->pids('frontend');
    my $status = slurp("/proc/$pid/status");
    my ($anon) = $status =~ /^RssAnon:\s+(\d+)/m;
    my ($shmem) = $status =~ /^RssShmem:\s+(\d+)/m;
    return $anon + $shmem;
}

subtest 'however it comes' => sub {
    my @sent = (['empty', "Content-Length: 0\r\n"], ['whole', "Content-Length: 5\r\n", 'hello'],
        ['pieces', "Content-Length: 10\r\n", map { chr(97 + $_) } 0 .. 9],
        ['name in capitals', "CONTENT-LENGTH: 5\r\n", 'hello'],
        ['chunked', "Transfer-Encoding: chunked\r\n", "5\r\nhello\r\n", "6;x=y\r\n world\r\n", "0\r\n\r\n"],
        ['chunked, cut anywhere', "Transfer-Encoding: chunked\r\n", split //, "5\r\nhello\r\n1\r\n!\r\n0\r\n\r\n"],
        ['without a length', '']);
    for (@sent) {
        my ($what, $head, @pieces) = @$_;
        (my $name = $what) =~ s/\W+/-/g;
        my $res = upload($name, $head, @pieces);
        is($res->{status}, 200, "$what: 200") or diag explain $res;
        my $want = $head =~ /chunked/i ? join('', @pieces) =~ s/[0-9a-f]+(?:;x=y)?\r\n(.*?)\r\n/$1/gr =~ s/\r\n//gr : join '', @pieces;
        is(content($name), $want, "$what: and it is there");
    }
};

subtest 'a connection goes on after a body' => sub {
    my $conn = $brood->connect(via => 'tcp');
    my $put = sub { "PUT $path/$_[0] HTTP/1.1\r\nHost: brood\r\nContent-Length: " . length($_[1]) . "\r\n\r\n$_[1]" };
    for my $n (1 .. 20) {
        $conn->put($put->("n$n", "body $n" x $n));
        my $res = $conn->get;
        is($res && $res->{status}, 200, "body $n");
    }
    $conn->put("GET /health HTTP/1.1\r\nHost: brood\r\n\r\n");
    is(($conn->get // {})->{status}, 200, 'and other requests');
    $conn->put($put->('p1', 'first') . $put->('p2', 'second') . "GET /health HTTP/1.1\r\nHost: brood\r\n\r\n");
    is(($conn->get // {})->{status}, 200, "pipelined: $_") for 'the first', 'the second', 'what follows';
    is(content('p1') . content('p2'), 'firstsecond', 'and each has its own body');
};

subtest 'what the client may not decide' => sub {
    my $smuggled = "GET /v1/capabilities HTTP/1.1\r\nHost: x\r\n\r\n";
    for (["Content-Length: 5\r\nContent-Length: 60\r\n", 'two lengths'], ["Content-Length: 5\r\nTransfer-Encoding: chunked\r\n", 'length and chunks'],
        ["X-Brood-Length: 5\r\nContent-Length: 5\r\n", 'our own word'], ["Content-Length : 5\r\n", 'a space before the colon'],
        ["Content-Length: 5\r\n folded: 1\r\n", 'a folded line'], ["Content-Length: +5\r\n", 'a sign'], ["Content-Length: 0x5\r\n", 'hex'],
        ["Content-Length: 99999999999999999999\r\n", 'beyond 64 bits'], ["Transfer-Encoding: gzip\r\n", 'another encoding'],
        ["Transfer-Encoding: chunked, chunked\r\n", 'chunked twice'], ["Content-Length: 5\r\nExpect: the-worst\r\n", 'an expectation']) {
        my ($head, $what) = @$_;
        my $conn = $brood->connect(via => 'tcp');
        $conn->put("PUT $path/odd HTTP/1.1\r\nHost: brood\r\n${head}Connection: close\r\n\r\nhello$smuggled");
        my $first = $conn->get(5);
        my $second = $first ? $conn->get(5) : undef;
        ok(!$second || $second->{status} != 200 || ($second->{body} // '') !~ /layers/, "$what: nothing is smuggled behind it")
          or diag explain [$first, $second];
        is(($brood->request(GET => '/health') // {})->{status}, 200, 'the service goes on');
    }
    my $res = upload('broken', "Transfer-Encoding: chunked\r\n", "5\r\nhello\r\nzz\r\n");
    is($res->{status}, 400, 'broken chunks: 400');
    is(($brood->request(GET => "$path/broken") // {})->{status}, 404, 'and nothing is there');
};

subtest 'sizes' => sub {
    my $piece = join '', map { pack 'N', $_ } 1 .. 262144;
    my $digest = sha256_hex($piece x 64);
    my $res = upload('large', 'Content-Length: ' . 64 * MIB . "\r\n", ($piece) x 64);
    is($res->{status}, 200, '64 MiB') or diag explain $res;
    is($res->{json}{size}, 64 * MIB, 'all of it');
    my $back = content('large');
    is(sha256_hex($back), $digest, 'and byte for byte the same when it is read');
    undef $back;
    $res = upload('larger', 'Content-Length: ' . (64 * MIB + 1) . "\r\n");
    is($res->{status}, 413, 'one byte more: 413, before a byte of it was sent') or diag explain $res;
    is($res->{headers}{connection}, 'close', 'and the connection ends');
    $res = upload('larger', 'Content-Length: ' . (64 * MIB + 1) . "\r\n", ($piece) x 64, 'x');
    is($res->{status}, 413, 'the same to a client that sends it all without looking') or diag explain $res;
    my $chunk = sprintf("%x\r\n", length $piece) . "$piece\r\n";
    $res = upload('larger', "Transfer-Encoding: chunked\r\n", ($chunk) x 64, "1\r\nx\r\n0\r\n\r\n");
    is($res->{status}, 413, 'the same in chunks') or diag explain $res;
    is(($brood->request(GET => "$path/larger") // {})->{status}, 404, 'and nothing is there');
    $res = $brood->request(POST => '/execute', body => 'x' x (MIB + 1), via => 'tcp');
    is($res && $res->{status}, 413, 'other bodies end at http.body_max_kb, as before');
    my $heard = 0;
    for (1 .. 20) {
        my $conn = $brood->connect(via => 'tcp');
        my $all = $conn->put(Brood::Conn->request(POST => '/execute', body => 'x' x (4 * MIB)));
        $heard++ if $all && (($conn->get // {})->{status} // 0) == 413;
    }
    is($heard, 20, 'and who sends all of it first is told so, too');
};

subtest '100-continue' => sub {
    my $conn = $brood->connect(via => 'tcp');
    $conn->put("PUT $path/expected HTTP/1.1\r\nHost: brood\r\nContent-Length: 5\r\nExpect: 100-continue\r\n\r\n");
    ok($conn->readable(5), 'an answer before the body');
    sysread $conn->{sock}, my $bytes, 4096;
    is($bytes, "HTTP/1.1 100 Continue\r\n\r\n", 'go on');
    $conn->put('hello');
    is(($conn->get // {})->{status}, 200, 'and it is taken');
    $conn = $brood->connect(via => 'tcp');
    $conn->put("PUT $path/expected HTTP/1.1\r\nHost: brood\r\nContent-Length: 99999999\r\nExpect: 100-continue\r\n\r\n");
    my $res = $conn->get(5);
    is($res && $res->{status}, 413, 'too large: no word of going on');
    unlike($res->{head}, qr/100 Continue/, '...');
};

subtest 'clients that are slow, or leave' => sub {
    my $hasty = Brood->start(tcp => 1, 'http-request-timeout' => '1s');
    my $conn = $hasty->connect(via => 'tcp');
    my $begin = time;
    $conn->put("PUT $path/slow HTTP/1.1\r\nHost: brood\r\nContent-Length: 1000\r\n\r\n");
    my $res;
    until ($res || time - $begin > 10) {
        last unless $conn->put('x');
        $res = $conn->get(0.1);
    }
    is($res && $res->{status}, 408, 'a body that trickles: 408');
    cmp_ok(time - $begin, '<', 4, 'soon after http.request_timeout_ms');
    for my $how ('after the head', 'in the middle') {
        my $gone = $hasty->connect(via => 'tcp');
        $gone->put("PUT $path/gone HTTP/1.1\r\nHost: brood\r\nContent-Length: 1000\r\n\r\n" . ($how =~ /middle/ ? 'x' x 500 : ''));
        $gone->close;
    }
    is(($hasty->request(GET => "$path/$_") // {})->{status}, 404, "nothing is left of it: $_") for 'slow', 'gone';
    $hasty->stop;
};

subtest 'many at once' => sub {
    my ($size, $piece, %status) = (16 * MIB, 'y' x MIB);
    my $patient = Brood->start(tcp => 1, 'files-uploads-held-mb' => 160);
    my $head = "PUT $path/many HTTP/1.1\r\nHost: brood\r\nContent-Length: $size\r\n\r\n";
    my @conns = map { $patient->connect(via => 'tcp') } 1 .. 40;
    my $answered = sub {
        my ($conn, $timeout) = @_;
        my $res = $conn->get($timeout) // {status => 0, headers => {}};
        $status{$res->{status}}++;
        ok($res->{headers}{'retry-after'}, 'refused, with Retry-After') if $res->{status} == 503;
        $conn->close;
        return 0;
    };
    $_->put($head) for @conns;
    for my $n (1 .. 16) {
        @conns = grep { $_->readable ? $answered->($_, 5) : $_->put($piece) } @conns;
        cmp_ok(frontend_kb($patient), '<', 200 * 1024, "no more than 160 MiB is held when @{[scalar @conns]} of 40 have sent $n") if $n % 5 == 0;
    }
    $answered->($_, 30) for @conns;
    is_deeply([sort keys %status], [200, 503], 'some were taken, the others got 503') or diag explain \%status;
    is(length(($patient->request(GET => "$path/many") // {})->{body} // ''), $size, 'what was taken is whole');
    my @idle = map { $patient->connect(via => 'tcp') } 1 .. 4;
    $_->put("PUT $path/many HTTP/1.1\r\nHost: brood\r\nContent-Length: " . 64 * MIB . "\r\n\r\n") for @idle;
    is(($patient->request(PUT => "$path/after", body => $piece x 16) // {})->{status}, 200, 'what is announced but not sent keeps nobody out');
    $_->close for @idle;
    ok(until_true(10, sub { frontend_kb($patient) < 40 * 1024 }), 'and the memory is given back') or diag frontend_kb($patient);
    $patient->stop;
};

subtest 'ordinary bodies count as well' => sub {
    my $other = Brood->start(tcp => 1, 'files-uploads-held-mb' => 16);
    my $half = '{"namespace_id":"a","cmd":"' . 'x' x (MIB - 2000);
    my @conns = map { $other->connect(via => 'tcp') } 1 .. 40;
    $_->put("POST /execute HTTP/1.1\r\nHost: brood\r\nContent-Length: " . (MIB - 1) . "\r\n\r\n$half", 2) for @conns;
    my @refused = grep { $_->readable(0.1) && ($_->get(1) // {status => 0})->{status} == 503 } @conns;
    cmp_ok(scalar @refused, '>', 20, scalar(@refused) . ' of 40 half-sent bodies of 1 MiB are refused with 503');
    $_->close for @conns;
    ok(until_true(10, sub { ($other->sh(up => 'echo hi')->{stdout} // '') eq "hi\n" }), 'and others are served after that');
    $other->stop;
};

is_deeply([grep { ($_->{level} // '') eq 'error' } $brood->log_lines], [], 'nothing in the log is an error');
$brood->stop;
done_testing;
