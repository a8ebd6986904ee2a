# SPDX-License-Identifier: Apache-2.0
# Rates: a burst lets through exactly what it says, whoever asks how; then one by one; no two keys share; a reload
# refills nothing. Who is let in at all: t/550-keys.t.
use lib 't/lib';
use Brood;
use Digest::SHA qw(sha256_hex);
use Time::HiRes qw(time);

my %token = map { ($_ => "brood_rate-test-$_") } qw(slow other fast free runs);

sub entry {
    my ($label, $more) = @_;
    return "  - {label: $label, sha256: " . sha256_hex($token{$label}) . ", scopes: [execute, runs], $more}\n";
}

sub keys_file { return "keys:\n" . entry(slow => 'rate: 0.01, burst: 7') . entry(other => 'rate: 0.01, burst: 5') . entry(fast => 'rate: 20, burst: 4') . entry(free => 'namespaces: "*"') . entry(runs => 'rate: 0.01, burst: 2') }

my $dir = Brood::_temp_dir();
spew("$dir/keys.yaml", keys_file());
my $brood = Brood->start(dir => $dir, tcp => 1, 'key-file' => "$dir/keys.yaml", 'http-threads' => 3);

sub request { return Brood::Conn->request(POST => '/execute', body => {namespace_id => $_[0], cmd => 'true'}, headers => {Authorization => "Bearer $token{$_[0]}"}) }

# So many requests at once, over that many connections: (how many 200, how many 429, the answers).
sub burst {
    my ($label, $requests, $conns) = @_;
    my @conns = map { $brood->connect(via => $_ % 2 ? 'tcp' : 'unix') } 1 .. $conns;
    my @bytes = map { '' } @conns;
    $bytes[$_ % $conns] .= request($label) for 0 .. $requests - 1;
    $conns[$_]->put($bytes[$_]) for 0 .. $#conns;
    my @answers = map { $conns[$_ % $conns]->get(20) } 0 .. $requests - 1;
    return (scalar(grep { $_ && $_->{status} == 200 } @answers), scalar(grep { $_ && $_->{status} == 429 } @answers), @answers);
}

subtest 'a burst' => sub {
    my ($good, $limited, @answers) = burst(slow => 60, 6);
    is($good, 7, 'lets exactly 7 of 60 through, over six connections and three threads');
    is($limited, 53, 'the others are 429');
    my ($last) = grep { $_->{status} == 429 } @answers;
    is($last->{json}{error}{code}, 'rate_limited', 'with a body');
    is($last->{headers}{'ratelimit-limit'}, 7, 'RateLimit-Limit');
    is($last->{headers}{'ratelimit-remaining'}, 0, 'RateLimit-Remaining');
    ok($last->{headers}{'ratelimit-reset'} > 600 && $last->{headers}{'ratelimit-reset'} <= 700, "RateLimit-Reset: $last->{headers}{'ratelimit-reset'}");
    ok($last->{headers}{'retry-after'} > 60 && $last->{headers}{'retry-after'} <= 100, "Retry-After: $last->{headers}{'retry-after'}");
    my @left = sort { $a <=> $b } map { $_->{headers}{'ratelimit-remaining'} } grep { $_->{status} == 200 } @answers;
    is("@left", '0 1 2 3 4 5 6', 'each that passes is told what is left');
    ok(!grep({ $_->{status} == 200 && defined $_->{headers}{'retry-after'} } @answers), 'and no Retry-After');
};

subtest 'no two keys share' => sub {
    my ($good) = burst(other => 30, 3);
    is($good, 5, 'another key has all of its own');
    ($good) = burst(slow => 10, 2);
    is($good, 0, 'and nothing for the first');
    ($good, undef, my @answers) = burst(free => 100, 4);
    is($good, 100, 'a key without a rate has no limit');
    ok(!grep({ defined $_->{headers}{'ratelimit-limit'} } @answers), 'and no RateLimit');
};

subtest 'stored runs' => sub {
    my @answers = map { $brood->request(POST => '/v1/runs', body => {cmd => 'true'}, headers => {Authorization => "Bearer $token{runs}"}) } 1 .. 3;
    is_deeply([map { $_->{status} } @answers], [200, 200, 429], 'likewise');
    my ($good, undef, $last) = @answers;
    is_deeply([ref \$last->{json}{error}, $last->{json}{code}], ['SCALAR', 'rate_limited'], 'in the shape of these routes') or diag($last->{body});
    ok($last->{headers}{'retry-after'} > 60 && $last->{headers}{'retry-after'} <= 100, "Retry-After: $last->{headers}{'retry-after'}");
    is_deeply([map { @$_{qw(ratelimit-limit ratelimit-remaining)} } map { $_->{headers} } $good, $last], [2, 1, 2, 0], 'RateLimit-Limit and -Remaining, whatever the status');
};

subtest 'what else costs' => sub {
    my $res = $brood->request(POST => '/execute', body => 'no JSON', headers => {Authorization => "Bearer $token{other}"});
    is($res->{status}, 429, 'a limited key is told so before its body is read');
    is($brood->request(GET => '/health', headers => {Authorization => "Bearer $token{other}"})->{status}, 200, 'what is open has no rate');
    my $begin = time;
    $brood->request(POST => '/execute', body => 'no JSON', headers => {Authorization => "Bearer $token{fast}"}) for 1 .. 3;
    my ($good) = burst(fast => 50, 1);
    my $refilled = int(20 * (time - $begin)) + 1;
    ok($good >= 1 && $good <= 1 + $refilled, "requests that fail are counted: $good passed, at most $refilled came back");
};

subtest 'refill' => sub {
    my $begin = time;
    my ($passed, $asked) = (0, 0);
    while (time - $begin < 2) {
        my $res = $brood->request(POST => '/execute', body => {namespace_id => 'fast', cmd => 'true'}, headers => {Authorization => "Bearer $token{fast}"});
        $passed += $res->{status} == 200;
        $asked++;
    }
    my $most = 20 * (time - $begin) + 4;
    cmp_ok($asked, '>', $most, "asked more often than allowed: $asked");
    cmp_ok($passed, '<=', $most, "never more than rate x time + burst: $passed of at most $most");
    cmp_ok($passed, '>=', 20, 'and not much less');
};

subtest 'a reload refills nothing' => sub {
    spew("$dir/keys.yaml", keys_file() =~ s/burst: 5/burst: 6/r);
    $brood->signal('HUP');
    ok($brood->wait_log(qr/"event":"keys".*"generation":2/), 'reloaded');
    my ($good) = burst(slow => 20, 2);
    is($good, 0, 'an empty bucket stays empty');
    ($good) = burst(other => 20, 2);
    is($good, 1, 'one that grew has grown by that');
};

$brood->stop;
done_testing;
