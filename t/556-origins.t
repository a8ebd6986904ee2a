# SPDX-License-Identifier: Apache-2.0
# A service without keys listens on loopback, where any page that its user visits can send requests. Written as such a page:
# a browser adds the Origin, and sends simple POSTs without asking first.
use lib 't/lib';
use Brood;

my $brood = Brood->start(tcp => 1);
my %body = ('/execute' => {namespace_id => 'alice', cmd => 'touch /work/visited'}, '/v1/runs' => {namespace_id => 'alice', cmd => 'touch /work/visited'},
    '/submit' => {userId => 'u', language => 'bash', namespace_id => 'alice', code => 'touch /work/visited'});

sub status {
    my ($path, %headers) = @_;
    return $brood->request(POST => $path, body => $body{$path}, headers => {'Content-Type' => 'application/x-www-form-urlencoded', %headers})->{status};
}

for my $path (sort keys %body) {
    for (['https://evil.example', 'localhost:8080'], ['http://evil.example:8080', 'evil.example:8080'], ['null', 'localhost:8080'],
        ['http://localhost:9090', 'localhost:8080'], ['http://localhost.evil.example', 'localhost.evil.example']) {
        is(status($path, Origin => $_->[0], Host => $_->[1]), 403, "$path: a page of $_->[0], to $_->[1]");
    }
}
is(scalar(grep { $_ eq 'alice' } $brood->volumes), 0, 'nothing of it was done');
is($brood->request(DELETE => '/v1/namespaces/alice', headers => {Origin => 'https://evil.example'})->{status}, 403, 'nor may it remove anything');
is($brood->request(GET => '/health', headers => {Origin => 'https://evil.example'})->{status}, 200, 'health tells nobody anything');
is(status('/execute', Origin => 'http://localhost:8080', Host => 'localhost:8080'), 200, 'a page of this very service may');
is(status('/execute'), 200, 'and what is no browser');
$brood->stop;
done_testing;
