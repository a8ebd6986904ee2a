# SPDX-License-Identifier: Apache-2.0
# POST /v1/files and GET /v1/files/{id} from outside: what is uploaded comes back byte for byte, in pieces as well; equal
# contents are one file; names cannot do harm; broken forms and whatever is too much are refused; a URL is good exactly as
# it was signed.
use lib 't/lib';
use Brood;
use Digest::SHA qw(hmac_sha256_hex sha256_hex);
use MIME::Base64 qw(encode_base64url);

my $brood = Brood->start(tcp => 1, 'store-file-max' => '2M', 'files-upload-max-mb' => 1, 'store-key-files-max' => 40, 'store-key-max' => '8M');
my $state = "$brood->{fs_root}.state";
my $B = 'boundary1234';

# A part as curl writes it.
sub part {
    my ($data, %opt) = @_;
    my $name = $opt{name} // 'file';
    my $disposition = $opt{disposition} // qq(form-data; name="$name"; filename=") . ($opt{filename} // 'a.txt') . '"';
    return "--$B\r\nContent-Disposition: $disposition\r\n" . ($opt{more} // '') . "\r\n$data\r\n";
}

sub post {
    my ($body, %opt) = @_;
    my $type = exists $opt{type} ? delete $opt{type} : "multipart/form-data; boundary=$B";
    return $brood->request(POST => '/v1/files', body => $body, headers => {'Content-Type' => $type, %{delete $opt{headers} // {}}}, %opt) // {status => 0, body => ''};
}

sub upload {
    my ($data, %opt) = @_;
    return post(part($data, %opt) . "--$B--\r\n");
}

sub get {
    my ($path, %opt) = @_;
    return $brood->request(GET => $path, headers => \%opt) // {status => 0, body => '', headers => {}};
}

sub objects {
    return map { m{([^/]+)\z} } glob "$state/objects/* $state/objects/.??*";
}

sub refused {
    my ($res, $status, $code, $what) = @_;
    my $json = ref $res->{json} eq 'HASH' ? $res->{json} : {};
    local $Test::Builder::Level = $Test::Builder::Level + 1;
    ok($res->{status} == $status && ($json->{code} // '') eq $code && !ref $json->{error} && length $json->{error},
        "$what: $status $code") or diag("got $res->{status}: $res->{body}");
}

my $data = join '', map { pack 'N', $_ } 1 .. 50_000;
my $id;
subtest 'upload and download' => sub {
    my $res = upload($data, filename => 'numbers.csv', more => "Content-Type: text/csv\r\n");
    is($res->{status}, 200, 'uploaded');
    $id = $res->{json}{id};
    like($id, qr/^file_[a-z2-7]{26}$/, 'an id');
    is_deeply($res->{json}, {id => $id, name => 'numbers.csv', size => length $data, sha256 => sha256_hex($data)}, 'and the facts');
    is_deeply([objects()], [sha256_hex($data)], 'one object, named after its content');
    my $again = upload($data, filename => 'other.bin');
    isnt($again->{json}{id}, $id, 'again: another name');
    is(scalar objects(), 1, 'of the same content');
    $res = get("/v1/files/$id");
    ok($res->{status} == 200 && $res->{body} eq $data, 'it comes back');
    is($res->{headers}{'content-type'}, 'text/csv; charset=utf-8', 'its type is guessed by its name');
    is($res->{headers}{'x-content-type-options'}, 'nosniff', 'and by nobody else');
    is($res->{headers}{etag}, '"' . sha256_hex($data) . '"', 'the ETag is the hash');
    is($res->{headers}{'accept-ranges'}, 'bytes', 'ranges may be asked for');
    $res = get("/v1/files/$again->{json}{id}");
    ok($res->{body} eq $data && $res->{headers}{'content-type'} eq 'application/octet-stream', 'the other name, too');
    my $empty = upload('');
    is($empty->{json}{size}, 0, 'an empty file');
    $res = get("/v1/files/$empty->{json}{id}");
    ok($res->{status} == 200 && $res->{body} eq '', 'comes back');
};

subtest 'head, ranges, conditions' => sub {
    my $conn = $brood->connect;
    $conn->put("HEAD /v1/files/$id HTTP/1.1\r\nHost: x\r\n\r\nGET /health HTTP/1.1\r\nHost: x\r\n\r\n");
    until_true(10, sub { $conn->readable(1); sysread $conn->{sock}, $conn->{buf}, 65536, length $conn->{buf}; $conn->{buf} =~ /healthy/ });
    like($conn->{buf}, qr{\AHTTP/1\.1 200 OK\r\n(?:[^\r]+\r\n)*content-length: 200000\r\n(?:[^\r]+\r\n)*\r\nHTTP/1\.1 200}i, 'HEAD: the size, and no body');
    my $n = length $data;
    my @good = (['bytes=0-0', 0, 0], ['bytes=100-199', 100, 199], ["bytes=@{[$n - 1]}-", $n - 1, $n - 1], ['bytes=-10', $n - 10, $n - 1],
        ['bytes=199990-999999', 199990, $n - 1], ["bytes=-$n", 0, $n - 1], ['bytes=-99999999', 0, $n - 1]);
    for (@good) {
        my ($range, $from, $to) = @$_;
        my $res = get("/v1/files/$id", Range => $range);
        ok($res->{status} == 206 && $res->{headers}{'content-range'} eq "bytes $from-$to/$n" && $res->{body} eq substr($data, $from, $to - $from + 1), $range);
    }
    for ("bytes=$n-", 'bytes=200001-300000', 'bytes=-0') {
        my $res = get("/v1/files/$id", Range => $_);
        ok($res->{status} == 416 && $res->{headers}{'content-range'} eq "bytes */$n", "$_: 416");
    }
    for ('bytes=1-2,4-5', 'bytes=5-1', 'lines=1-2', 'bytes=a-b', 'bytes=', 'bytes=1', 'bytes=99999999999999999999-') {
        my $res = get("/v1/files/$id", Range => $_);
        ok($res->{status} == 200 && length $res->{body} == $n, "$_: all of it");
    }
    my $etag = '"' . sha256_hex($data) . '"';
    for ($etag, "W/$etag", "\"x\", $etag", '*') {
        my $res = get("/v1/files/$id", 'If-None-Match' => $_);
        ok($res->{status} == 304 && $res->{body} eq '' && $res->{headers}{etag} eq $etag, "If-None-Match $_: 304");
    }
    is(get("/v1/files/$id", 'If-None-Match' => '"x"')->{status}, 200, 'another: 200');
    is(get("/v1/files/$id", 'If-Range' => $etag, Range => 'bytes=0-0')->{status}, 206, 'If-Range, the same: a range');
    is(get("/v1/files/$id", 'If-Range' => '"x"', Range => 'bytes=0-0')->{status}, 200, 'If-Range, another: all of it');
};

subtest 'names' => sub {
    my %names = ('plain.txt' => 'plain.txt', 'say \"hi\".txt' => 'say "hi".txt', 'say %22hi%22' => 'say "hi"', '../../etc/passwd' => 'passwd',
        "\xe2\x82\xac.pdf" => "\x{20ac}.pdf", '' => 'file', '..' => 'file', 'a;b.sh' => 'a;b.sh', "';--" => "';--", '<b>.html' => '<b>.html');
    for (sort keys %names) {
        my $res = upload('x', filename => $_);
        is($res->{json}{name}, $names{$_}, "the name of '$_'");
        my $is = get("/v1/files/$res->{json}{id}")->{headers}{'content-disposition'} // '';
        like($is, qr/\Aattachment; filename="[A-Za-z0-9._~ -]*"; filename\*=UTF-8''[A-Za-z0-9._~%-]+\z/, 'is safe in a header') or diag $is;
        my ($encoded) = $is =~ /UTF-8''(.*)/;
        $encoded =~ s/%(..)/chr hex $1/ge;
        utf8::decode($encoded);
        is($encoded, $names{$_}, 'and whole');
    }
    is(upload('x', disposition => q(form-data; name="file"; filename="x"; filename*=UTF-8''na%C3%AFve))->{json}{name}, "na\x{ef}ve", 'filename*');
    refused(upload('x', filename => $_->[0]), 400, 'bad_multipart', $_->[1])
      for ["a%0d%0ab", 'a line end'], ["a\xff", 'no UTF-8'], ['n' x 256, '256 bytes'];
};

subtest 'broken forms' => sub {
    my $end = "--$B--\r\n";
    my $before = objects();
    refused(post(part('x') . $end, type => 'multipart/form-data'), 400, 'bad_multipart', 'no boundary');
    refused(post(part('x') . $end, type => 'multipart/form-data; boundary=' . 'b' x 71), 400, 'bad_multipart', 'a long boundary');
    refused(post(part('x') . $end, type => 'multipart/form-data; boundary=other'), 400, 'bad_multipart', 'another boundary');
    refused(post(part('x') . $end, type => 'multipart/mixed; boundary=x'), 415, 'unsupported_media_type', 'multipart, but no form');
    refused(post('{}', type => 'application/json'), 415, 'unsupported_media_type', 'JSON');
    refused(post($end), 400, 'bad_multipart', 'no part');
    refused(post(part('x') . part('y') . $end), 400, 'bad_multipart', 'two parts');
    refused(post(part('x', name => 'other') . $end), 400, 'bad_multipart', 'another part');
    like(post(part('x', name => 'other') . $end)->{json}{error}, qr/expected: file\b/, 'whose right name is told');
    refused(post(part('x', more => 'X: ' . 'x' x (1 << 20) . "\r\n") . $end), 400, 'bad_multipart', 'a head of 1 MiB');
    refused(post(''), 400, 'bad_multipart', 'an empty body');
    my $whole = part('some data') . $end;
    refused(post(substr $whole, 0, $_), 400, 'bad_multipart', "cut at byte $_") for 1, 20, 60, 100, length($whole) - 10, length($whole) - 4;
    my $inside = "a\r\n--${B}x\r\n--$B-\r\n-$B--";
    my $res = upload($inside);
    is(get("/v1/files/$res->{json}{id}")->{body}, $inside, 'what looks like the boundary is data');
    is(scalar objects(), $before + 1, 'nothing else was stored');
    my $conn = $brood->connect;
    $conn->put("POST /v1/files HTTP/1.1\r\nHost: x\r\nContent-Type: multipart/form-data; boundary=$B\r\nContent-Length: 1000\r\n\r\n" . part('x'));
    $conn->close;
    is(get("/v1/files/$res->{json}{id}")->{status}, 200, 'a client that leaves in the middle is nobody\'s trouble');
};

subtest 'too much' => sub {
    my $res = upload('x' x (2 << 20));
    is($res->{status}, 200, 'as large as a file may be');
    $brood->request(DELETE => "/v1/files/$res->{json}{id}");
    refused(upload('x' x ((2 << 20) + 1)), 413, 'file_too_large', 'a byte more');
    my $conn = $brood->connect; # refused as this API does, by its head alone
    $conn->put("POST /v1/files?x HTTP/1.1\r\nHost: x\r\nContent-Type: multipart/form-data; boundary=$B\r\nContent-Length: 3000000\r\n\r\n");
    refused($conn->get, 413, 'too_large', 'far more');
    $conn = $brood->connect;
    $conn->put("POST /v1/runs?x HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nContent-Length: 3000000\r\n\r\n");
    $res = $conn->get;
    refused($res, 413, 'too_large', "what the HTTP library refuses, in this API's shape");
    ok($res->{headers}{'x-request-id'}, 'with an id');
    my @ids;
    push @ids, $res->{json}{id} while ($res = upload('y' x 300_000 . @ids))->{status} == 200 && @ids < 50;
    refused($res, 429, 'quota_exceeded', 'more than a key may have, after ' . @ids);
    cmp_ok(scalar @ids, '>', 5, 'not before');
    is($brood->request(DELETE => "/v1/files/$ids[0]")->{json}{deleted}, Mojo::JSON->true, 'one is deleted');
    is(upload('z' x 300_000)->{status}, 200, 'then there is room for another');
    refused($brood->request(DELETE => "/v1/files/$ids[0]"), 404, 'not_found', 'deleted');
    refused(get("/v1/files/$ids[0]"), 404, 'not_found', 'deleted');
    $brood->request(DELETE => "/v1/files/$_") for @ids;
};

# As anyone could sign who had the secret.
sub url {
    my (%opt) = @_;
    my $of = $opt{id} // $id;
    my $payload = encode_base64url("1:" . ($opt{signed_id} // $of) . ':' . (time + ($opt{for} // 60)));
    my $secret = $opt{secret} // slurp("$state/url.key");
    return "/v1/files/$of?payload=$payload&sig=" . hmac_sha256_hex($payload, $secret);
}

subtest 'signed URLs' => sub {
    my $url = url();
    my $res = get($url);
    ok($res->{status} == 200 && $res->{body} eq $data, 'a good one');
    is(get($url, Range => 'bytes=1-4')->{body}, substr($data, 1, 4), 'in pieces');
    is(length slurp("$state/url.key"), 32, 'the secret is 32 bytes');
    is((stat "$state/url.key")[2] & 0777, 0600, 'for its owner only');
    my $other = upload('other')->{json}{id};
    refused(get(url(id => $other, signed_id => $id)), 403, 'bad_signature', "another file's payload");
    refused(get($url =~ s/\Q$id/$other/r), 403, 'bad_signature', 'another id');
    refused(get(url(secret => 'x' x 32)), 403, 'bad_signature', "another host's secret");
    refused(get(url(for => -1)), 403, 'url_expired', 'a second late');
    refused(get(url(for => 0)), 403, 'url_expired', 'at its expiry');
    refused(get(url(id => 'file_' . 'a' x 26)), 404, 'not_found', 'signed, but unknown');
    refused(get(url(id => 'nonsense')), 404, 'not_found', 'signed, but no id');
    my ($payload, $sig) = $url =~ /payload=(\S+)&sig=(\S+)/;
    my $taken = 0;
    for my $i (0 .. 63) {
        for my $bit (0 .. 3) {
            my $flipped = $sig;
            substr($flipped, $i, 1) = sprintf '%x', hex(substr $sig, $i, 1) ^ 1 << $bit;
            $taken++ if get("/v1/files/$id?payload=$payload&sig=$flipped")->{status} != 403;
        }
    }
    is($taken, 0, 'each bit of the signature matters');
    for my $i (0 .. length($payload) - 1) {
        my $flipped = $payload;
        substr($flipped, $i, 1) = substr($payload, $i, 1) eq 'A' ? 'B' : 'A';
        $taken++ if get("/v1/files/$id?payload=$flipped&sig=$sig")->{status} != 403;
    }
    is($taken, 0, 'each character of the payload');
    my $late = encode_base64url("1:$id:" . (time + 1e6));
    refused(get("/v1/files/$id?payload=$late&sig=$sig"), 403, 'bad_signature', 'another expiry');
    refused(get("/v1/files/$id?payload=$payload&sig=" . uc $sig), 403, 'bad_signature', 'capital letters');
    refused(get("/v1/files/$id?payload=$payload=&sig=$sig"), 403, 'bad_signature', 'padding');
    refused(get("/v1/files/$id?$_"), 403, 'bad_signature', $_) for "payload=$payload", "sig=$sig", "payload=&sig=$sig", "payload=$payload&sig=", "payload=$payload&sig=$sig$sig",
      "payload=$payload&sig=" . substr($sig, 0, 63), 'payload=' . 'A' x 5000 . "&sig=$sig";
    my $query = "sig=$sig&x=y&payload=$payload";
    is(get("/v1/files/$id?$query")->{status}, 200, 'in another order, with something else');
    $brood->restart;
    is(get($url)->{status}, 200, 'it is good after a restart');
};

subtest 'other ids' => sub {
    refused(get("/v1/files/$_"), 404, 'not_found', $_) for 'file_' . 'a' x 26, 'x', '..', '%2e%2e', 'file_' . 'A' x 26, 'run_' . 'a' x 26, "$id%00", "../store.db";
    is(get("/v1/files/$id/x")->{status}, 404, 'nothing is below one');
    is($brood->request(PUT => "/v1/files/$id", body => 'x')->{status}, 405, 'it cannot be written');
};
$brood->stop;

subtest 'with keys' => sub {
    my ($ann, $bob) = map { "sixteen-characters-of-$_" } qw(ann bob);
    $brood = Brood->start(env => {API_KEYS => "$ann:ann,$bob:bob"}, 'store-key-files-max' => 2);
    $state = "$brood->{fs_root}.state";
    my $as = sub { (headers => {Authorization => "Bearer $_[0]"}) };
    my $put = sub { post(part($_[1]) . "--$B--\r\n", $as->($_[0])) };
    refused(upload('x'), 401, 'unauthorized', 'no key');
    my $res = $put->($ann, $data);
    is($res->{status}, 200, 'ann uploads');
    $id = $res->{json}{id};
    is($brood->request(GET => "/v1/files/$id", $as->($ann))->{body}, $data, 'and reads it');
    refused(get("/v1/files/$id", Authorization => "Bearer $bob"), 404, 'not_found', 'bob does not see it');
    refused($brood->request(DELETE => "/v1/files/$id", $as->($bob)), 404, 'not_found', 'nor can he delete it');
    refused(get("/v1/files/$id"), 401, 'unauthorized', 'nobody does');
    refused(get("/v1/files/$id", Authorization => 'Bearer wrong'), 401, 'unauthorized', 'a wrong key');
    is(get(url())->{body}, $data, 'who has a URL needs no key');
    is(get(url(), Authorization => "Bearer $bob")->{status}, 200, 'or any');
    refused(get(url(for => -1), Authorization => "Bearer $ann"), 403, 'url_expired', 'a key does not make an old URL good');
    my $same = $put->($bob, $data);
    is($same->{status}, 200, 'bob uploads the same');
    is(scalar objects(), 1, 'it is stored once');
    is($put->($ann, 'second')->{status}, 200, "ann's share");
    refused($put->($ann, 'third'), 429, 'quota_exceeded', 'is used up');
    is($put->($bob, 'second')->{status}, 200, "bob's is not");
    is($brood->request(DELETE => "/v1/files/$id", $as->($ann))->{status}, 200, 'ann deletes hers');
    is(get("/v1/files/$same->{json}{id}", Authorization => "Bearer $bob")->{body}, $data, "bob's stays");
    $brood->stop;
};
done_testing;
