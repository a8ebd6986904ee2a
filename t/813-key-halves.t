# SPDX-License-Identifier: Apache-2.0
# A key that asks for as many runs as the engine takes, or for very long ones, gets half of its places: another key's are taken
# as ever, cancels and lists are heard, and the frontend lives.
use lib 't/lib';
use Brood;
use Digest::SHA qw(sha256_hex);

my %token = map { ($_ => "brood_halves-test-$_") } qw(ann bob cat);
my $dir = Brood::_temp_dir();
spew("$dir/keys.yaml", "keys:\n" . join '', map { "  - {label: $_, sha256: " . sha256_hex($token{$_}) . ", scopes: [execute, runs, namespaces], namespaces: $_}\n" } sort keys %token);
my $brood = Brood->start(dir => $dir, 'key-file' => "$dir/keys.yaml", 'runs-queue-max' => 5000, 'languages-dir' => '',
    'runs-max-wait' => '300s', 'v1-runs-timeout-max' => '300s', 'runs-drain' => '0s', 'http-threads' => 1);

sub request_of {
    my ($who, $body) = @_;
    return Brood::Conn->request(POST => '/v1/runs', body => $body, headers => {Authorization => "Bearer $token{$who}", Prefer => 'respond-async'});
}
sub is_served {
    my ($who) = @_;
    my $r = $brood->request(POST => '/execute', body => {namespace_id => $who, cmd => 'echo hi'}, headers => {Authorization => "Bearer $token{$who}"}, timeout => 30) // {status => 0};
    return "$r->{status} " . ($r->{json}{stdout} // '');
}
# So many, pipelined, whose client does not wait: how many were taken, how many refused for want of places; an id.
sub flood {
    my ($who, $count, $at_once, $cmd) = @_;
    my ($conn, $taken, $refused, $id) = ($brood->connect, 0, 0);
    my $bytes = request_of($who => {namespace_id => $who, cmd => $cmd, limits => {timeout_ms => 300_000}});
    for (1 .. $count / $at_once) {
        $conn->put($bytes x $at_once);
        for (1 .. $at_once) {
            my $res = $conn->get(30) // return ($taken, $refused, $id);
            $taken += $res->{status} == 202;
            $refused += $res->{status} == 503 && ($res->{json}{code} // '') eq 'queue_full';
            $id //= $res->{json}{id};
        }
    }
    return ($taken, $refused, $id);
}

is(is_served('bob'), "200 hi\n", 'bob is served');
my ($taken, $refused, $id) = flood(ann => 2200, 50, 'sleep 300');
ok($taken > 1000 && $taken <= 1536, "ann gets half of the places, or of the descriptors: $taken");
is($taken + $refused, 2200, 'and is told so');
is(is_served('bob'), "200 hi\n", 'bob another');
($taken, $refused) = flood(cat => 300, 10, 'sleep 300 #' . 'x' x 120_000);
ok($taken > 200 && $taken < 290, "cat gets half of the room for commands, with $taken long ones");
is($taken + $refused, 300, 'and is told so');
is(is_served('bob'), "200 hi\n", 'bob has room');
is($brood->request(GET => '/v1/namespaces/bob/files/', headers => {Authorization => "Bearer $token{bob}"}, timeout => 30)->{status}, 200, 'his files are listed');
is($brood->request(DELETE => "/v1/runs/$id", headers => {Authorization => "Bearer $token{ann}"}, timeout => 30)->{status}, 202, 'a cancel is heard');
ok(until_true(20, sub { ($brood->request(GET => "/v1/runs/$id", headers => {Authorization => "Bearer $token{ann}"})->{json}{reason} // '') eq 'cancelled' }), 'and done');
is(scalar(grep { ($_->{event} // '') =~ /^(?:engine_silent|engine_bug|frontend_exited)$/ } $brood->log_lines), 0, 'nobody was given up');
$brood->stop;
done_testing;
