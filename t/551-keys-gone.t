# SPDX-License-Identifier: Apache-2.0
# What is held open with a key that is taken out, or expires, ends: terminals, attached and detached, streams of events, waits. Runs
# that were accepted go on, and of other keys nothing ends. Who is let in after a reload: t/550-keys.t.
use lib 't/lib';
use Brood;
use Brood::Events;
use Brood::Ws;
use Digest::SHA qw(sha256_hex);
use POSIX qw(strftime);
use Time::HiRes qw(time);

my %token = map { $_ => "brood_token-of-$_-" . sha256_hex(rand() . $$) } qw(a b c d);
my $dir = Brood::_temp_dir();

sub entry {
    my ($label, %more) = @_;
    $more{scopes} //= '[execute, runs, files, namespaces]';
    $more{namespaces} //= '"*"';
    return "  - label: $label\n    sha256: " . sha256_hex($token{$label}) . "\n" . join '', map { "    $_: $more{$_}\n" } sort keys %more;
}

sub auth { return {Authorization => "Bearer $token{$_[0]}", %{$_[1] // {}}} }
sub ask { my ($who, $method, $path, %more) = @_; return $brood::it->request($method => $path, %more, headers => auth($who, $more{headers})) // {} }

sub enter {
    my ($who, $name, %opt) = @_;
    my $t = Brood::Ws->open($brood::it, "/v1/namespaces/" . ($opt{ns} // 'home') . "/terminal?name=$name", headers => auth($who), via => $opt{via});
    return $t->event('attached') ? $t : undef;
}

sub names { my ($who, $ns) = @_; return join ' ', sort map { $_->{name} } @{ask($who, GET => "/v1/namespaces/$ns/terminals")->{json}{terminals} // []} }

sub reload {
    my (@entries) = @_;
    my $count = sub { scalar grep { ($_->{event} // '') eq 'keys' } $brood::it->log_lines };
    my $before = $count->();
    spew("$dir/keys.yaml", @entries ? "keys:\n" . join('', @entries) : "keys: []\n");
    kill HUP => $brood::it->{pid};
    return until_true(20, sub { $count->() > $before });
}

spew("$dir/keys.yaml", "keys:\n", map { entry($_) } qw(a b c d));
$brood::it = Brood->start(dir => $dir, 'key-file' => "$dir/keys.yaml", 'http-threads' => 3, tcp => 1, 'terminals-per-namespace' => 16, 'languages-dir' => '', 'terminals-max' => 64, 'v1-runs-timeout-max-ms' => 120_000);

subtest 'a key is taken out' => sub {
    my @attached = map { enter('a', "attached$_", via => $_ % 2 ? 'tcp' : 'unix') } 1 .. 4;
    my $left = enter('a', 'left');
    $left->break;
    my $of_a = enter('a', 'taken');
    $of_a = enter('b', 'taken');
    my $mine = enter('b', 'mine');
    my $guest = enter('b', 'guests');
    $guest = enter('a', 'guests');
    my $less = enter('c', 'less');
    my $moved = enter('d', 'moved');
    my $begin = sub { my ($who, $cmd) = @_; return ask($who, POST => '/v1/runs', body => {cmd => $cmd, namespace_id => "runs-$who", limits => {timeout_ms => 120_000}}, headers => {Prefer => 'respond-async'})->{json}{id} };
    my %run = map { $_ => $begin->($_, 'until [ -e go ]; do sleep 0.1; done; echo went') } qw(a b);
    my %watch = map { $_ => Brood::Events->open($brood::it, GET => "/v1/runs/$run{$_}/events", headers => auth($_)) } qw(a b);
    $_->next(20) for values %watch;
    my $stream = Brood::Events->open($brood::it, POST => '/execute', body => {cmd => 'echo begun; sleep 50', namespace_id => 'stream'}, headers => auth('a'));
    is($stream->next(20)->{event}, 'started', 'a run is watched from its own request');
    my $wait = Brood::Events->open($brood::it, GET => "/v1/runs/$run{a}?wait=60", headers => auth('a'), later => 1);
    my $job = ask('a', POST => '/submit', body => {language => 'bash', code => 'sleep 20'})->{json}{executionId};
    my $status = Brood::Events->open($brood::it, GET => "/status?id=$job&wait=60", headers => auth('a'), later => 1);
    ok($job, 'a job is accepted');
    my $plain = $brood::it->connect;
    $plain->put(Brood::Conn->request(POST => '/execute', headers => auth('a'), body => {cmd => 'touch begun; until [ -e go ]; do sleep 0.1; done; echo went', namespace_id => 'plain', timeout => 60}));
    ok(until_true(20, sub { -e "$brood::it->{fs_root}/plain/begun" }), 'a run is under way');

    ok(reload(entry('b'), entry('c', scopes => '[runs]'), entry('d', namespaces => '"elsewhere-*"')), 'the key goes');
    is(join(' ', map { $_->ended(30) } @attached), '1008 1008 1008 1008', 'its terminals end');
    like($attached[0]{reason}, qr/key is gone/, 'and say why');
    is($of_a->ended(30), 1008, 'also one that another key has taken over');
    like($of_a->{reason}, qr/the key that opened it is gone/, 'who is told so');
    is($guest->ended(30), 1008, 'it is sent away from one of another key');
    is($less->ended(30), 1008, 'a key that may not execute any more loses its own');
    is($moved->ended(30), 1008, 'and one that may not use the namespace');
    ok(until_true(30, sub { names('b', 'home') eq 'guests mine' }), 'what is detached ends as well, and what belongs to others stays') or diag(names('b', 'home'));
    ok($mine->type("echo ST''ILL\r") && $mine->until(qr/STILL/), 'and goes on');
    my @rest = $watch{a}->rest(30);
    is($rest[-1]{event}, 'error', 'a stream of events ends with an error');
    is($rest[-1]{data}{code}, 'unauthorized', 'that says why');
    ok($watch{a}{ended}, 'and as an answer does');
    @rest = $stream->rest(30);
    is($rest[-1]{data}{code}, 'unauthorized', 'the stream of a run, too');
    ok($wait->head(30) && $wait->{status} == 401, 'who waits for a run is told 401');
    ok($status->head(30) && $status->{status} == 401, 'and who waits for a job');
    is(ask('a', GET => "/v1/runs/$run{a}")->{status}, 401, 'nothing more is let in');
    spew("$brood::it->{fs_root}/$_/go", '') for qw(plain runs-a runs-b);
    my $r = $plain->get(60);
    is($r->{status}, 200, 'a run that was accepted has its answer');
    is($r->{json}{stdout}, "went\n", 'all of it');
    @rest = $watch{b}->rest(60);
    is($rest[-1]{event}, 'result', 'the stream of another key came to its end');
};

subtest 'the key comes back' => sub {
    ok(reload(entry('a'), entry('b'), entry('c')), 'with the same token');
    ok(my $t = enter('a', 'again'), 'it may open terminals again');
    ok(reload(entry('a', rate => 100, burst => 100), entry('b'), entry('c')), 'a reload that leaves it there');
    is(ask('b', GET => '/health')->{status}, 200, 'is done') for 1 .. 3;
    ok($t->type("echo ST''ILL\r") && $t->until(qr/STILL/), 'ends nothing');
    $token{a} .= 'x';
    ok(reload(entry('a'), entry('b'), entry('c')), 'another token under the same label');
    is($t->ended(30), 1008, 'is another key');
};

subtest 'a key expires' => sub {
    my $t;
    for my $life (6, 20, 60) { # on a machine that is slow it may have expired before it was used
        reload(entry('b'), entry('c', expires => strftime('"%Y-%m-%dT%H:%M:%SZ"', gmtime(time + $life))));
        last if $t = enter('c', 'short');
    }
    ok($t, 'a terminal of a key that will expire');
    my $mine = enter('b', 'long');
    is($t->ended(90), 1008, 'ends when that has');
    ok(until_true(30, sub { names('b', 'home') !~ /short/ }), 'and is gone');
    ok($mine->type("echo ST''ILL\r") && $mine->until(qr/STILL/), 'others stay');
};

subtest 'the service stops' => sub {
    my $t = enter('b', 'last');
    $brood::it->stop;
    is($brood::it->{status}, 0, 'cleanly');
};
done_testing;
