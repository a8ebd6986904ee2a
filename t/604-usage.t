# SPDX-License-Identifier: Apache-2.0
# GET /v1/usage: what each key used, by day; GET /v1/runs: the stored runs of a key, in pages. What parameters may be, who
# may see whose, and what is left of it after a stop and a kill.
use lib 't/lib';
use Brood;
use Digest::SHA qw(sha256_hex);
use POSIX qw(strftime);

my %scopes = (ann => '[execute, runs]', bob => '[runs]', root => '[admin]', zoe => '[files]');
my %token = map { $_ => "brood_token-of-$_-" . sha256_hex(rand() . $$) } keys %scopes;
my $dir = Brood::_temp_dir();
spew("$dir/keys.yaml", "keys:\n" . join '', map { "  - label: $_\n    sha256: " . sha256_hex($token{$_}) . "\n    scopes: $scopes{$_}\n" } sort keys %token);
my $brood = Brood->start(dir => $dir, 'key-file' => "$dir/keys.yaml", 'languages-dir' => '', 'http-threads' => 2);
sub ask {
    my ($who, $method, $path, $body) = @_;
    return $brood->request($method => $path, (defined $body ? (body => $body) : ()), headers => {Authorization => "Bearer $token{$who}"}, timeout => 30) // {status => 0};
}
sub today { return strftime('%Y-%m-%d', gmtime) }
sub usage { my ($who, $query) = @_; return ask($who, GET => '/v1/usage' . ($query // '')) }
# The sums of one key, once they have these runs.
sub sums {
    my ($who, $runs, $query) = @_;
    my $k;
    until_true(10, sub { $k = (usage($who, $query)->{json} // {})->{keys}[0]; $k && $k->{runs} >= $runs });
    return $k // {};
}

my $day = today();
my $fresh = sums('ann', 0);
is_deeply([@{$fresh}{qw(key runs jobs output_bytes)}, scalar @{$fresh->{days}}], ['ann', 0, 0, 0, 0], 'a key that did nothing');
ask('ann', POST => '/execute', {namespace_id => 'a', cmd => 'printf 12345; printf 678 >&2'}) for 1 .. 5;
is(ask('ann', POST => '/execute', {namespace_id => 'a', cmd => 7})->{status}, 400, 'a request that is refused');
my $u = sums('ann', 5);
is_deeply([@{$u}{qw(runs output_bytes)}], [5, 40], 'plain runs count, with what they wrote; refusals do not');
ok($u->{wall_seconds} > 0 && $u->{cpu_seconds} > 0 && $u->{wall_seconds} < 5, "time: $u->{wall_seconds} s, of processors $u->{cpu_seconds} s");
ask('ann', POST => '/v1/runs', {cmd => 'head -c 2000000 /dev/zero', limits => {max_output_bytes => 1000}});
ask('ann', POST => '/v1/runs', {language => 'bash', code => 'i=0; while ((i++ < 100000)); do :; done'});
$u = sums('ann', 7);
is($u->{output_bytes}, 40 + 2_000_000, 'of a stored run; what is cut counts, too');
my $gone = $brood->connect;
$gone->put(Brood::Conn->request(POST => '/execute', body => {namespace_id => 'a', cmd => 'touch begun; sleep 20'}, headers => {Authorization => "Bearer $token{ann}"}));
ok($brood->wait_file('begun'), 'one whose client leaves');
$gone->close;
is(sums('ann', 8)->{runs}, 8, 'counts');
my ($before) = sums('ann', 8)->{cpu_seconds};
ask('ann', POST => '/v1/runs', {language => 'c', code => 'int main(void) { return 0; }', limits => {timeout_ms => 10000, cpu_ms => 20000}});
ok(sums('ann', 9)->{cpu_seconds} > $before, 'a compiled program counts with its compiler') if -x '/usr/bin/gcc';
my $all = -x '/usr/bin/gcc' ? 9 : 8;
$day = $fresh->{days} && today() eq $day ? $day : undef;
SKIP: {
    skip 'midnight came', 1 unless $day;
    is_deeply([map { [$_->{day}, $_->{runs}] } @{sums('ann', $all)->{days}}], [[$day, $all]], 'all on this day');
}
is(sums('bob', 0)->{runs}, 0, 'another key did nothing of it');
ask('bob', POST => '/v1/runs', {cmd => 'true'});
is(sums('bob', 1)->{runs}, 1, 'until it does');

{
    my $had = sums('ann', $all);
    my $job = ask('ann', POST => '/submit', {userId => 'u', language => 'bash', code => 'printf 1234; printf 56 >&2'})->{json};
    my $k;
    ok(until_true(20, sub { $k = sums('ann', 0); $k->{jobs} == 1 }), 'a job counts when it has ended');
    is_deeply([$k->{runs} - $had->{runs}, $k->{output_bytes} - $had->{output_bytes}], [1, 6], 'and so do its run, and what that wrote');
    $all++;
}

{
    my $had = sums('ann', $all);
    ask('ann', POST => '/execute', {namespace_id => 'a', session => 's', cmd => $_}) for 'x=1', 'printf 1234567; printf 89 >&2';
    my $k = sums('ann', $all + 2);
    is_deeply([$k->{runs} - $had->{runs}, $k->{output_bytes} - $had->{output_bytes}], [2, 9], 'calls of a session are runs');
    ok($k->{wall_seconds} > $had->{wall_seconds}, 'that take time');
    $all += 2;
}

subtest 'who may see whose' => sub {
    is(usage('ann', '?key=ann')->{status}, 200, 'its own by name');
    my $other = usage('ann', '?key=bob');
    is_deeply([$other->{status}, $other->{json}{error}{code}], [403, 'forbidden'], "another's: 403");
    is(usage('zoe')->{status}, 200, 'any scope will do');
    is($brood->request(GET => '/v1/usage')->{status}, 401, 'no key: 401');
    is_deeply([map { $_->{key} } @{usage('root')->{json}{keys}}], ['ann', 'bob'], 'admin sees all');
    is_deeply([map { $_->{key} } @{usage('root', '?key=bob')->{json}{keys}}], ['bob'], 'or one');
    my $page = usage('root', '?limit=1')->{json};
    is_deeply([$page->{next_cursor}, map { $_->{key} } @{$page->{keys}}], ['bob', 'ann'], 'a page');
    $page = usage('root', "?limit=1&cursor=$page->{next_cursor}")->{json};
    is_deeply([$page->{next_cursor}, map { $_->{key} } @{$page->{keys}}], [undef, 'bob'], 'and the last');
};

subtest 'days' => sub {
    my $j = usage('ann', '?from=2020-02-28&to=2020-03-01')->{json};
    is_deeply([$j->{from}, $j->{to}, $j->{keys}[0]{runs}], ['2020-02-28', '2020-03-01', 0], 'long ago: nothing');
    is(usage('ann', '?from=' . today())->{json}{keys}[0]{runs}, $all, 'from today') if $day && today() eq $day;
    for (['from=2020-02-30' => 'from'], ['from=yesterday' => 'from'], ['to=2020-1-1' => 'to'], ['to=' => 'to'], ['from=2020-01-02&to=2020-01-01' => 'from'],
        ['from=2018-01-01&to=2020-01-01' => 'from'], ['limit=0' => 'limit'], ['limit=101' => 'limit'], ['limit=x' => 'limit'], ['cursor=a%20b' => 'cursor'],
        ['key=a/b' => 'key'], ['key=' . 'x' x 65 => 'key'], ['from=2020-01-01%00' => 'from'], ['to=99999-01-01' => 'to']) {
        my ($query, $name) = @$_;
        my $res = usage('root', "?$query");
        ok($res->{status} == 400 && $res->{json}{error}{message} =~ /^$name: expected/, "$query: 400, by name") or diag explain $res;
    }
};

sub runs { my ($who, $query) = @_; return ask($who, GET => '/v1/runs' . ($query // '')) }

subtest 'lists of runs' => sub {
    my $l = runs('bob')->{json};
    is_deeply([scalar @{$l->{runs}}, $l->{next_cursor}], [1, undef], 'one run');
    my @ids = ($l->{runs}[0]{id});
    for my $i (1 .. 11) {
        my %do = $i % 4 == 0 ? (cmd => 'exit 1') : $i % 4 == 1 ? (cmd => 'sleep 5', limits => {timeout_ms => 100}) : (cmd => "echo out-$i; echo secret");
        unshift @ids, ask('bob', POST => '/v1/runs', \%do)->{json}{id};
    }
    $l = runs('bob')->{json};
    is_deeply([map { $_->{id} } @{$l->{runs}}], \@ids, 'all, the newest first');
    my ($one) = grep { $_->{status} eq 'succeeded' } @{$l->{runs}};
    my $whole = ask('bob', GET => "/v1/runs/$one->{id}")->{json};
    is_deeply([map { $one->{$_} } qw(id created_at status exit_code wall_ms run_id code_sha256)], [map { $whole->{$_} } qw(id created_at status exit_code wall_ms run_id code_sha256)], 'with the facts of each');
    ok(!exists $one->{stdout} && runs('bob')->{body} !~ /secret/, 'without what they wrote');
    my (@seen, $cursor);
    for (1 .. 10) {
        my $page = runs('bob', '?limit=5' . (defined $cursor ? "&cursor=$cursor" : ''))->{json};
        push @seen, map { $_->{id} } @{$page->{runs}};
        unshift @ids, ask('bob', POST => '/v1/runs', {cmd => 'true'})->{json}{id} if $_ == 1;
        defined($cursor = $page->{next_cursor}) or last;
    }
    is_deeply(\@seen, [@ids[1 .. $#ids]], 'in pages: each once, whatever comes meanwhile');
    for my $status (qw(succeeded failed timeout oom killed)) {
        my $some = runs('bob', "?status=$status")->{json}{runs};
        my @want = grep { $_->{status} eq $status } @{runs('bob')->{json}{runs}};
        is_deeply([map { $_->{id} } @$some], [map { $_->{id} } @want], "$status: " . @want);
    }
    is_deeply([map { $_->{id} } @{runs('bob', '?status=timeout&limit=1')->{json}{runs}}], [(map { $_->{id} } @{runs('bob', '?status=timeout')->{json}{runs}})[0]], 'status and limit');
    is(scalar @{runs('root')->{json}{runs}}, 0, 'each key has its own');
    is(runs('zoe')->{status}, 403, 'it needs the scope runs');
    for (['limit=0' => 'limit'], ['limit=1001' => 'limit'], ['limit=' => 'limit'], ['status=running' => 'status'], ['status=' => 'status'], ['cursor=5' => 'cursor'],
        ['cursor=x.run_aaaaaaaaaaaaaaaaaaaaaaaaaa' => 'cursor'], ['cursor=1.run_a' => 'cursor'], ['cursor=-1.run_aaaaaaaaaaaaaaaaaaaaaaaaaa' => 'cursor'], ['cursor=' => 'cursor']) {
        my ($query, $name) = @$_;
        my $res = runs('bob', "?$query");
        ok($res->{status} == 400 && $res->{json}{error} =~ /^$name: expected/, "$query: 400, by name") or diag explain $res;
    }
    is_deeply(runs('bob', '?cursor=0.run_aaaaaaaaaaaaaaaaaaaaaaaaaa')->{json}, {runs => [], next_cursor => undef}, 'behind the last: nothing');
};

# A stop loses nothing, however soon it comes.
my $had = sums('bob', 13)->{runs};
ask('bob', POST => '/v1/runs', {cmd => 'true'}) for 1 .. 7;
$brood->restart;
is(sums('bob', $had + 7)->{runs}, $had + 7, 'a stop loses nothing');
# A kill loses what is not a second or two old, and no more.
ask('bob', POST => '/v1/runs', {cmd => 'true'}) for 1 .. 5;
is(sums('bob', $had + 12)->{runs}, $had + 12, 'written down');
my ($pid) = $brood->pids('frontend');
kill KILL => $pid;
until_true(20, sub { my ($new) = $brood->pids('frontend'); $new && $new != $pid }) && $brood->wait_ready(20);
is(sums('bob', $had + 12)->{runs}, $had + 12, 'is there after a kill');
$brood->stop;

# Without keys all is one.
my $open = Brood->start;
$open->sh(a => 'echo x') for 1 .. 3;
my $j;
ok(until_true(10, sub { $j = $open->request(GET => '/v1/usage')->{json}; ($j->{keys}[0] // {runs => 0})->{runs} == 3 }), 'without keys');
is_deeply([$j->{keys}[0]{key}, scalar @{$j->{keys}}], ['', 1], 'all of it has no label');
$open->stop;
done_testing;
