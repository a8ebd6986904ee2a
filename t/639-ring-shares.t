# SPDX-License-Identifier: Apache-2.0
# What one key's runs leave in their rings for readers who do not come takes half of the room of all at most: another key's
# output is kept, and can be read from its beginning.
use lib 't/lib';
use Brood;
use Brood::Events;
use Digest::SHA qw(sha256_hex);

my (%auth, $keys);
for my $label (qw(hoarder other)) {
    my $token = "brood_of-$label-" . sha256_hex(rand() . $$);
    $auth{$label} = {Authorization => "Bearer $token"};
    $keys .= "  - label: $label\n    sha256: " . sha256_hex($token) . "\n    scopes: [runs, execute]\n";
}
my $dir = Brood::_temp_dir();
spew("$dir/keys.yaml", "keys:\n$keys");
my $brood = Brood->start(dir => $dir, 'key-file' => "$dir/keys.yaml", 'languages-dir' => '', 'runs-drain-s' => 1, 'streams-ring-kb' => 512, 'streams-rings-max-mb' => 2,
    'v1-runs-timeout-default' => '100s', 'v1-runs-timeout-max' => '100s');
sub detach {
    my ($who, %body) = @_;
    return ($brood->request(POST => '/v1/runs', body => {detach => \1, %body}, headers => $auth{$who}, timeout => 40) // {})->{json}{id};
}
# The hoarder's: nobody reads them, and nothing of them goes. Each has the first bytes of its ring when `go` is there.
for my $i (1 .. 6) {
    ok(detach(hoarder => cmd => "touch began-$i; head -c 3000000 /dev/zero | tr '\\0' x; touch ended-$i", namespace_id => "h-$i", stream => {keep => 'all'}), 'a run that is not read');
    ok($brood->wait_file("began-$i"), 'has begun');
}
for my $round (1 .. 3) {
    my $id = detach(other => cmd => 'seq 1 40000');
    my $end = $brood->request(GET => "/v1/runs/$id?wait=60", headers => $auth{other}, timeout => 70)->{json};
    is($end->{status}, 'succeeded', "another key's run, $round");
    my @events = Brood::Events->open($brood, GET => "/v1/runs/$id/events", headers => $auth{other})->rest(30);
    is_deeply([grep { $_->{event} eq 'gap' } @events], [], 'nothing of it is missing');
    is(Brood::Events::text_of(stdout => @events), join('', map { "$_\n" } 1 .. 40000), 'all that it wrote is there');
}
is(scalar(grep { $brood->find("ended-$_") } 1 .. 6), 0, "the hoarder's still wait");
$brood->stop;
done_testing;
