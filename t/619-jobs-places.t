# SPDX-License-Identifier: Apache-2.0
# Jobs of namespaces share a bound in the engine. One key with many namespaces full of jobs gets half of it: another key's
# job has its turn at once, and with it the runs of its namespace. Nor do namespaces that are full keep another of the same
# key waiting, or, without keys, any other.
use lib 't/lib';
use Brood;
use Brood::Jobs;
use Digest::SHA qw(sha256_hex);

my (%auth, $keys);
for my $label (qw(many one)) {
    my $token = "brood_of-$label-" . sha256_hex(rand() . $$);
    $auth{$label} = [headers => {Authorization => "Bearer $token"}];
    $keys .= "  - label: $label\n    sha256: " . sha256_hex($token) . "\n    scopes: [runs, execute]\n";
}
my $dir = Brood::_temp_dir();
spew("$dir/keys.yaml", "keys:\n$keys");

# Six namespaces with a job that stays, and 95 behind each: 576 together, more than the bound.
sub fill {
    my ($brood, @auth) = @_;
    my @open = map { my $n = $_; submit($brood, 'touch began; sleep 190', namespace_id => "many-$n", timeout => 190, @auth)->{executionId} } 1 .. 6;
    ok(until_true(60, sub { !grep { status($brood, $_, @auth)->{status} ne 'running' } @open }), 'six namespaces have a job that stays');
    my @conns = map { $brood->connect } 1 .. 6;
    my $accepted = 0;
    for my $i (1 .. 95) {
        $conns[$_]->put(Brood::Conn->request(POST => '/submit', body => {language => 'bash', code => 'true', namespace_id => 'many-' . ($_ + 1)}, @auth)) for 0 .. 5;
        $accepted += ($_->get(20) // {status => 0})->{status} == 202 for @conns;
    }
    is($accepted, 570, 'and 95 more that wait');
    return @open;
}

# A job and a run of a namespace that has nothing else.
sub passes {
    my ($brood, $ns, @auth) = @_;
    my $s = ended($brood, submit($brood, 'echo hi', namespace_id => $ns, @auth)->{executionId}, @auth);
    is($s->{stdoutPreview}, "hi\n", "$ns: its job runs meanwhile") or diag explain $s;
    is(($brood->execute({namespace_id => $ns, cmd => 'true'}, @auth))[0], 200, 'and its runs do');
}

my %flags = ('languages-dir' => '', 'runs-queue-max' => 100, 'runs-drain-s' => 1, 'runs-timeout-max' => '200s');
for my $keyed (1, 0) {
    subtest $keyed ? 'with keys' : 'without' => sub {
        my $brood = Brood->start(($keyed ? (dir => $dir, 'key-file' => "$dir/keys.yaml") : ()), %flags);
        my @many = $keyed ? @{$auth{many}} : ();
        my @open = fill($brood, @many);
        passes($brood, 'mine', @{$auth{one}}) if $keyed;
        passes($brood, 'many-7', @many);
        is(($brood->execute({namespace_id => 'many-6', cmd => 'true'}, @many))[0], 429, 'those of a full one are refused: its jobs go first');
        is(status($brood, $open[0], @many)->{status}, 'running', 'which have not ended');
        $brood->stop;
    };
}
done_testing;
