# SPDX-License-Identifier: Apache-2.0
# Two Content-Length headers that differ: whoever stands in front of us may have read another body than we would, so the
# request is refused and its connection ends, on every path, in pieces, and behind another request.
use lib 't/lib';
use Brood;

my $brood = Brood->start(tcp => 1);
my $smuggled = "GET /v1/capabilities HTTP/1.1\r\nHost: x\r\n\r\n";
my $body = '{"namespace_id":"a","cmd":"touch ran"}';
my $len = length $body;

# All that comes on a connection to which these pieces are sent.
sub talk {
    my (@pieces) = @_;
    my $conn = $brood->connect(via => 'tcp');
    for my $piece (@pieces) {
        $conn->put($piece);
        select undef, undef, undef, 0.03 if @pieces > 1;    # so that it is read as a piece
    }
    my @answers;
    while (my $res = $conn->get(5)) { push @answers, $res }
    return ($conn, @answers);
}

sub refused {
    my ($what, @pieces) = @_;
    my ($conn, @answers) = talk(@pieces);
    is_deeply([map { $_->{status} } @answers], [400], "$what: 400, and nothing behind it") or diag explain \@answers;
    is(lc($answers[-1]{headers}{connection} // ''), 'close', "$what: the connection ends");
    ok($answers[-1]{headers}{'x-request-id'}, "$what: with an X-Request-Id");
}

for my $path ('/execute', '/v1/runs', '/v1/namespaces/a/files/x', '/health', '/nowhere') {
    my $method = $path =~ /files/ ? 'PUT' : $path =~ /health/ ? 'GET' : 'POST';
    my $head = "$method $path HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\n";
    refused("$path", "${head}Content-Length: $len\r\nContent-Length: " . ($len + length $smuggled) . "\r\n\r\n$body$smuggled");
    refused("$path, the other way round", "${head}Content-Length: " . ($len + length $smuggled) . "\r\nX: y\r\ncontent-length:$len\r\n\r\n$body$smuggled");
}
my $head = "POST /execute HTTP/1.1\r\nHost: x\r\nContent-Length: $len\r\n";
refused('zero and some', "POST /execute HTTP/1.1\r\nHost: x\r\nContent-Length: 0\r\nContent-Length: $len\r\n\r\n$body");
refused('with chunks', "${head}Transfer-Encoding: chunked\r\nContent-Length: 1\r\n\r\n0\r\n\r\n");
refused('three', "${head}Content-Length: $len\r\nContent-Length: 1\r\n\r\n$body");
refused('in pieces', "${head}Content-", 'Length: 7', "7\r\n", "\r\n$body");
refused('a byte at a time', map { "$_" } split //, "POST /execute HTTP/1.1\r\nContent-Length: 2\r\nContent-Length: 3\r\n\r\n{}");
refused('behind an empty line', "\r\n${head}Content-Length: 1\r\n\r\n$body");

my $health = "GET /health HTTP/1.1\r\nHost: x\r\n\r\n";
my $twice = "${head}Content-Length: 1\r\n\r\n$body";
for (['in one piece', "$health$twice$smuggled"], ['one after the other', $health, "$twice$smuggled"], ['cut in its head', $health . substr($twice, 0, 60), substr($twice, 60) . $smuggled],
    ['behind a body', "POST /execute HTTP/1.1\r\nHost: x\r\nContent-Length: 2\r\n\r\n{}$twice$smuggled"]) {
    my ($what, @pieces) = @$_;
    my ($conn, @answers) = talk(@pieces);
    is_deeply([map { $_->{status} } @answers], [$what =~ /body/ ? 400 : 200, 400], "behind another request, $what: the first is answered, it is refused") or diag explain \@answers;
}
is($brood->find('ran'), undef, 'nothing of it was run');

for (['twice the same', "Content-Length: $len\r\ncontent-length:  $len\r\n"], ['once', "Content-Length: $len\r\n"], ['a name that is like it', "Content-Length: $len\r\nX-Content-Length: 1\r\n"]) {
    my ($what, $lengths) = @$_;
    my $conn = $brood->connect(via => 'tcp');
    $conn->put("POST /execute HTTP/1.1\r\nHost: x\r\n$lengths\r\n$body$health");
    is_deeply([map { ($conn->get(10) // {status => 0})->{status} } 1, 2], [200, 200], "$what: fine, and so is what follows");
}
$brood->stop;
done_testing;
