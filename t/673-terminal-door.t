# SPDX-License-Identifier: Apache-2.0
# Who may open a terminal: keys, also as a subprotocol; pages of other origins may not; what is no handshake is refused
# as plain HTTP. How many there may be.
use lib 't/lib';
use Brood;
use Brood::Ws;
use Digest::SHA qw(sha256_hex);

my %token = map { ($_ => "brood_door-test-$_") } qw(alice bob runs admin old);
my $dir = Brood::_temp_dir();
spew("$dir/keys.yaml", "keys:\n"
      . "  - {label: alice, sha256: ${\sha256_hex($token{alice})}, scopes: [execute], namespaces: \"alice\"}\n"
      . "  - {label: bob, sha256: ${\sha256_hex($token{bob})}, scopes: [execute], namespaces: \"bob*\"}\n"
      . "  - {label: runs, sha256: ${\sha256_hex($token{runs})}, scopes: [runs, files, namespaces], namespaces: \"*\"}\n"
      . "  - {label: old, sha256: ${\sha256_hex($token{old})}, scopes: [execute], namespaces: \"*\", expires: 2020-01-01T00:00:00Z}\n"
      . "  - {label: admin, sha256: ${\sha256_hex($token{admin})}, scopes: [admin], namespaces: \"*\"}\n");
my $brood = Brood->start(dir => $dir, tcp => 1, 'key-file' => "$dir/keys.yaml", 'terminals-origins' => 'https://app.example, https://b.example:8443');

sub try {
    my ($ns, %headers) = @_;
    my $query = delete $headers{query} // '';
    return Brood::Ws->open($brood, "/v1/namespaces/$ns/terminal$query", headers => \%headers);
}

sub bearer { return (Authorization => "Bearer $token{$_[0]}") }
sub protocol { return ('Sec-WebSocket-Protocol' => "bearer, $token{$_[0]}") }

subtest 'keys' => sub {
    my $t = try('alice');
    is($t->{status}, 401, 'no key: 401');
    like($t->{headers}{'www-authenticate'}, qr/^Bearer/, 'and what is needed');
    is($t->{json}{error}{code}, 'unauthorized', 'as JSON');
    is(try('alice', Authorization => 'Bearer nonsense')->{status}, 401, 'a wrong one');
    is(try('alice', bearer('old'))->{status}, 401, 'an expired one');
    is(try('alice', bearer('bob'))->{status}, 403, "another's: 403");
    is(try('alice', bearer('runs'))->{status}, 403, 'one without the scope execute');
    my $own = try('alice', bearer('alice'));
    is($own->{status}, 101, 'its own');
    ok(!exists $own->{headers}{'sec-websocket-protocol'}, 'no subprotocol where none was offered');
    ok($own->event('attached'), 'and it is there');
    $own->break;
};

subtest 'as a subprotocol' => sub {
    my $t = try('bob1', protocol('bob'));
    is($t->{status}, 101, 'bearer, KEY');
    is($t->{headers}{'sec-websocket-protocol'}, 'bearer', 'bearer is spoken; the key does not come back');
    ok($t->event('attached'), 'it is there');
    $t->break;
    is(try('alice', protocol('bob'))->{status}, 403, "another's");
    is(try('alice', 'Sec-WebSocket-Protocol' => 'bearer, nonsense')->{status}, 401, 'a wrong one');
    is(try('alice', 'Sec-WebSocket-Protocol' => 'bearer')->{status}, 401, 'none behind the word');
    is(try('alice', 'Sec-WebSocket-Protocol' => "chat, $token{alice}")->{status}, 401, 'another word');
    is(try('alice', 'Sec-WebSocket-Protocol' => 'bearer, ' . 'x' x 3000)->{status}, 401, 'a very long one');
    my $res = $brood->request(POST => '/execute', body => {namespace_id => 'alice', cmd => 'true'}, headers => {protocol('alice')});
    is($res->{status}, 401, 'for WebSockets only');
    unlike(slurp($brood->{log}), qr/\Q$token{bob}\E/, 'no token in the log');
};

subtest 'origins' => sub {
    is(try('alice', bearer('alice'), Origin => 'https://evil.example')->{status}, 403, 'a page of another host');
    is(try('alice', bearer('alice'), Origin => 'null')->{status}, 403, 'a page of nowhere');
    is(try('alice', bearer('alice'), Origin => 'http://brood.example.evil.example', Host => 'brood.example')->{status}, 403, 'a host that begins alike');
    is(try('alice', bearer('alice'), Origin => 'https://brood.example:1', Host => 'brood.example')->{status}, 403, 'another port');
    is(try('alice', bearer('alice'), Origin => $_, Host => 'brood.example')->{status}, 101, "this host's own: $_") for 'https://brood.example', 'http://Brood.Example';
    is(try('alice', bearer('alice'), Origin => $_)->{status}, 101, "listed: $_") for 'https://app.example', 'https://b.example:8443';
    is(try('alice', bearer('alice'), Origin => 'https://b.example')->{status}, 403, 'the port counts');
};

subtest 'what is no handshake' => sub {
    my @bad = (
        [426, 'no upgrade', Upgrade => undef], [426, 'another upgrade', Upgrade => 'h2c'], [426, 'no Connection: Upgrade', Connection => 'keep-alive'],
        [426, 'no version', 'Sec-WebSocket-Version' => undef], [426, 'version 8', 'Sec-WebSocket-Version' => 8], [426, 'version 133', 'Sec-WebSocket-Version' => 133],
        [400, 'no key', 'Sec-WebSocket-Key' => undef], [400, 'a short key', 'Sec-WebSocket-Key' => 'AAAA'],
        [400, 'a key that is not base64', 'Sec-WebSocket-Key' => '!' x 22 . '=='], [400, 'a long key', 'Sec-WebSocket-Key' => 'A' x 100],
    );
    for (@bad) {
        my ($status, $what, @headers) = @$_;
        my $t = try('alice', bearer('alice'), @headers);
        is($t->{status}, $status, "$what: $status");
        is($t->{headers}{'sec-websocket-version'}, 13, 'with the version that is spoken') if $status == 426;
    }
    is(try('alice', bearer('alice'), Upgrade => 'WebSocket', Connection => 'keep-alive, Upgrade')->{status}, 101, 'as Firefox says it');
    my $conn = $brood->connect;
    $conn->put(Brood::Ws->handshake('/v1/namespaces/alice/terminal', bearer('alice')) =~ s/HTTP\/1\.1/HTTP\/1.0/r);
    is($conn->get(5)->{status}, 400, 'HTTP/1.0');
    is($brood->request(POST => '/v1/namespaces/alice/terminal', headers => {bearer('alice')}, body => {})->{status}, 405, 'POST: 405');
    is(try('alice', bearer('alice'), query => "?$_")->{status}, 400, "$_: 400")
      for 'cols=0', 'rows=1001', 'cols=x', 'name=', 'name=a/b', 'name=' . 'x' x 65, 'name=%00', 'term=a%20b', 'term=', 'term=' . 'x' x 65;
    is(try('alice%2F', bearer('alice'))->{status}, 400, 'no such namespace id');
};

subtest 'listing and ending' => sub {
    my $t = try('alice', bearer('alice'), query => '?name=.x-1_Y');
    $t->event('attached');
    my $url = '/v1/namespaces/alice/terminals';
    is($brood->request(GET => $url)->{status}, 401, 'no key: 401');
    is($brood->request(GET => $url, headers => {bearer('bob')})->{status}, 403, "another's key: 403");
    is($brood->request(DELETE => "$url/.x-1_Y", headers => {bearer('bob')})->{status}, 403, 'nor may it end one');
    is_deeply([sort map { $_->{name} } @{$brood->request(GET => $url, headers => {bearer('alice')})->{json}{terminals}}], ['.x-1_Y', 'main'], 'its own are listed');
    is_deeply([map { $_->{name} } @{$brood->request(GET => '/v1/namespaces/bob2/terminals', headers => {bearer('bob')})->{json}{terminals}}], [], 'of one namespace only');
    is($brood->request(DELETE => "$url/$_", headers => {bearer('alice')})->{status}, 404, "$_: 404") for 'none', 'a%2Fb', 'x' x 100;
    is($brood->request(DELETE => "$url/.x-1_Y", headers => {bearer('alice')})->{status}, 200, 'DELETE');
    is($t->ended, 1000, 'ends it');
};

subtest 'how many' => sub {
    my @t = map { try('bob3', bearer('bob'), query => "?name=t$_") } 1 .. 5;
    ok($_->event('attached'), 'one') for @t[0 .. 3];
    my $e = $t[4]->event('error');
    is($e->{code}, 'too_many', 'a fifth of one namespace is refused');
    is($t[4]->ended, 1013, 'try again later');
    is($brood->request(DELETE => '/v1/namespaces/bob3/terminals/t1', headers => {bearer('bob')})->{status}, 200, 'one is ended');
    my $t = try('bob3', bearer('bob'), query => '?name=t5');
    ok($t->event('attached'), 'then there is room');
    $t->type("seq 1000; exit\r");
    is($t->ended, 1000, 'it ends');
    my $used;
    my $count = sub { $used = $brood->request(GET => '/v1/usage', headers => {bearer('bob')})->{json}{keys}[0]; ($used->{runs} // 0) >= 2 };
    ok(until_true(10, $count), 'ends count as runs in the usage of their key');
    cmp_ok($used->{output_bytes}, '>', 3893, 'with what they showed');
};
$brood->stop;

# Without keys, on loopback, any page could open one, were it not for Origin; and a name that another's DNS points here is
# not ours.
$brood = Brood->start(tcp => 1);
is(try('a', Origin => $_->[0], Host => $_->[1])->{status}, $_->[2], "without keys: origin $_->[0], host $_->[1]: $_->[2]")
  for ['http://evil.example', 'localhost', 403], ['http://evil.example:8080', 'evil.example:8080', 403], ['http://localhost:8080', 'localhost:8080', 101],
  ['http://127.0.0.1:8080', '127.0.0.1:8080', 101], ['http://[::1]:8080', '[::1]:8080', 101], ['http://localhost.evil.example', 'localhost.evil.example', 403],
  ['http://127.0.0.1.evil.example', '127.0.0.1.evil.example', 403];
is(try('a')->{status}, 101, 'who sends no Origin is no page');
is(try('a', 'Sec-WebSocket-Protocol' => 'bearer, whatever')->{headers}{'sec-websocket-protocol'}, 'bearer', 'a key is nobody\'s business');
$brood->stop;
done_testing;
