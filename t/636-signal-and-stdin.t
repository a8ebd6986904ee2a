# SPDX-License-Identifier: Apache-2.0
# POST /v1/runs/{id}/stdin and /signal: what reaches a run, what comes too late, and what is hit by neither.
use lib 't/lib';
use Brood;
use Brood::Events;
use Brood::Wire;
use Digest::SHA qw(sha256_hex);
use MIME::Base64 qw(encode_base64);
use Mojo::JSON qw(encode_json);
use Time::HiRes qw(time);

my ($token, $other) = map { "brood_token-of-$_-" . sha256_hex(rand() . $$) } qw(one other);
my $dir = Brood::_temp_dir();
spew("$dir/keys.yaml", "keys:\n", map { "  - label: $_->[0]\n    sha256: " . sha256_hex($_->[1]) . "\n    scopes: [execute, runs]\n" } ['one', $token], ['other', $other]);
my $brood = Brood->start(dir => $dir, 'key-file' => "$dir/keys.yaml", 'http-threads' => 3, 'languages-dir' => '',
    'v1-runs-timeout-default' => '60s', 'v1-runs-timeout-max' => '60s');

sub ask {
    my ($method, $path, $body, $as) = @_;
    my $res = $brood->request($method, $path, (defined $body ? (body => $body) : ()), headers => {Authorization => 'Bearer ' . ($as // $token)}, timeout => 70) // {status => 0};
    return {http => $res->{status}, error => '', code => '', ref $res->{json} eq 'HASH' ? %{$res->{json}} : ()};
}
sub stream { return Brood::Events->open($brood, POST => '/v1/runs', body => {@_}, headers => {Authorization => "Bearer $token"}) }
sub feed { my ($id, %body) = @_; return ask(POST => "/v1/runs/$id/stdin", {%body}) }
sub signal { my ($id, $name) = @_; return ask(POST => "/v1/runs/$id/signal", {signal => $name}) }
sub ended { return ask(GET => "/v1/runs/$_[0]?wait=30") }
# Waits until its stdout ends with this; what came since is returned. Reads may put lines together, or apart.
sub wrote {
    my ($s, $text) = @_;
    my $seen = '';
    while ($seen !~ /\Q$text\E\z/) {
        my $e = $s->next(10) or last;
        last if $e->{event} eq 'result';
        $seen .= $e->{data}{text} if $e->{event} eq 'stdout';
    }
    return $seen;
}
# A stream and its id, when it has written its first line.
sub begun {
    my $s = stream(@_);
    my $started = $s->next;
    $s->{first} = wrote($s, "ready\n");
    return ($s, $started->{data}{id});
}

subtest 'stdin' => sub {
    my ($s, $id) = begun(cmd => 'while read -r line; do echo "got $line"; [ "$line" != first ] || echo ready; done; echo over', stdin_open => \1, stdin => "first\n");
    is($s->{first}, "got first\nready\n", 'what it was started with comes first');
    my $r = feed($id, stdin => "zwei \x{e4}\n");
    is_deeply([@$r{qw(http bytes open)}], [200, 8, Mojo::JSON->true], 'bytes are taken') or diag(encode_json($r));
    is(wrote($s, "\n"), "got zwei \x{e4}\n", 'and reach it');
    is(feed($id, stdin => encode_base64("drei\n", ''), encoding => 'base64')->{http}, 200, 'as base64');
    is(wrote($s, "\n"), "got drei\n", 'too');
    is(feed($id, eof => \1)->{open}, Mojo::JSON->false, 'its end');
    my @events = $s->rest;
    is($events[0]{data}{text}, "over\n", 'is an end of file');
    my $late = feed($id, stdin => 'x');
    is_deeply([@$late{qw(http code)}], [409, 'ended'], 'nothing is taken when it has ended');
};

# A request whose answer is not awaited; and what lets a run go on that reads its fifo "gate".
sub feeding { my ($id, %body) = @_; my $conn = $brood->connect; $conn->put(Brood::Conn->request(POST => "/v1/runs/$id/stdin", body => {%body}, headers => {Authorization => "Bearer $token"})); return $conn }
sub open_gate { my ($ns) = @_; my $path = $brood->wait_file("gate-$ns"); open my $gate, '>', $path or die "gate: $!"; close $gate }
sub gated { my ($ns, $after) = @_; return begun(cmd => "mkfifo gate-$ns; echo ready; read x <gate-$ns; $after", stdin_open => \1, namespace_id => $ns) }

subtest 'more than a pipe holds' => sub {
    my $bytes = join '', map { sprintf "%07d\n", $_ } 1 .. 60_000; # 480 KB
    my ($s, $id) = gated(pipe1 => 'sha256sum');
    my $conn = feeding($id, stdin => $bytes);
    ok(!$conn->readable(0.3), 'is not taken before the run reads');
    open_gate('pipe1');
    my $r = $conn->get(20)->{json};
    is($r->{bytes}, length $bytes, 'but then') or diag(encode_json($r));
    feed($id, stdin => $bytes, eof => \1);
    is(($s->rest)[-1]{data}{stdout}, "ready\n" . sha256_hex($bytes x 2) . "  -\n", 'all of it, in its order');
    ($s, $id) = gated(pipe2 => 'true');
    $conn = feeding($id, stdin => $bytes);
    ok(!$conn->readable(0.3), 'a run that does not read');
    open_gate('pipe2');
    my $res = $conn->get(20);
    is($res->{status}, 409, 'and ends');
    like($res->{json}{code}, qr/^(?:ended|stdin_closed)$/, 'which is seen by its end, or by that of its stdin');
    like($res->{json}{error}, qr/ 65536 of 480000 bytes/, 'says how much it took');
    ($s, $id) = begun(cmd => 'exec <&-; echo ready; sleep 30', stdin_open => \1);
    $r = feed($id, stdin => $bytes);
    is_deeply([@$r{qw(http code)}], [409, 'stdin_closed'], 'or one that closed it') or diag(encode_json($r));
    $s->close;
};

subtest 'who leaves, and who waits' => sub {
    my ($s, $id) = gated(leave => 'wc -c');
    my @conns = map { feeding($id, stdin => 'x' x 100_000) } 1 .. 4;
    ok(!grep({ $_->readable(0.05) } @conns), 'all wait');
    $_->close for splice @conns, 0, 2;
    open_gate('leave');
    is(scalar(grep { ($_->get(10) // {status => 0})->{status} == 200 } @conns), 2, 'who stays is answered');
    feed($id, eof => \1);
    like(($s->rest)[-1]{data}{stdout}, qr/^ready\n[234]00000\n\z/, 'who leaves has sent all of it, or nothing');
};

subtest 'who feeds more than is read' => sub {
    my ($s, $id) = gated(full => 'wc -c');
    my @conns = map { feeding($id, stdin => 'x' x 700_000) } 1 .. 3;
    my @refused;
    ok(until_true(20, sub { return (@refused = grep { $_->readable(0.02) } @conns) == 2 }), 'of three that are too much together one may wait');
    for my $res (map { $_->get(5) } @refused) {
        is_deeply([$res->{status}, $res->{json}{code}, $res->{headers}{'retry-after'} ? 1 : 0], [429, 'stdin_full', 1], 'the others are told to come again') or diag(encode_json($res->{json}));
    }
    open_gate('full');
    my ($waits) = grep { my $c = $_; !grep { $_ == $c } @refused } @conns;
    is($waits->get(20)->{status}, 200, 'until the run reads');
    is(feed($id, stdin => 'y' x 700_000, eof => \1)->{http}, 200, 'then there is room');
    is(($s->rest)[-1]{data}{stdout}, "ready\n1400000\n", 'and nothing of the refused came');
};

subtest "a key's bound" => sub {
    my ($s, $id) = gated(keys => ':');
    my @ids = ($id);
    for my $n (0 .. 78) { # all but the first wait behind others
        my $r = ask(POST => '/v1/runs', {cmd => 'sleep 60', stdin_open => \1, detach => \1, namespace_id => $n % 2 ? 'keys' : 'keys2'});
        push @ids, $r->{id} if $r->{id};
    }
    my @conns;
    my $refused;
    for (@ids) {
        push @conns, feeding($_, stdin => 'x' x 1_000_000);
        ($refused) = grep { $_->readable(0) } @conns and last;
    }
    ok($refused || until_true(20, sub { ($refused) = grep { $_->readable(0) } @conns; return $refused }), 'many runs that do not read');
    is($refused && $refused->get(5)->{status}, 429, 'end at the bound of the key');
    my $mine = ask(POST => '/v1/runs', {cmd => 'cat', stdin => 'first', stdin_open => \1, detach => \1, namespace_id => 'other'}, $other);
    is(ask(POST => "/v1/runs/$mine->{id}/stdin", {stdin => ' and last', eof => \1}, $other)->{http}, 200, "another key's run is fed");
    is(ask(GET => "/v1/runs/$mine->{id}?wait=30", undef, $other)->{stdout}, 'first and last', 'and done');
    ask(DELETE => "/v1/runs/$_") for @ids;
    $_->close for @conns;
    $s->close;
};

subtest 'a program' => sub {
    my ($s, $id) = begun(language => 'python', code => "import sys\nprint('ready', flush=True)\nprint(sys.stdin.read()[::-1])", stdin_open => \1);
    feed($id, stdin => 'desserts', eof => \1);
    is(($s->rest)[-1]{data}{stdout}, "ready\nstressed\n", 'reads it like a command');
};

subtest 'refusals' => sub {
    is(ask(POST => '/v1/runs', {cmd => 'cat', stdin_open => \1})->{http}, 400, 'an open stdin that nobody could feed');
    my ($s, $id) = begun(cmd => 'echo ready; sleep 5');
    is_deeply([@{feed($id, stdin => 'x')}{qw(http code)}], [409, 'stdin_closed'], 'a run whose stdin is not open');
    for my $body ({}, {stdin => 1}, {eof => 'yes'}, {stdin => 'x', encoding => 'rot13'}, {stdin => 'eA=', encoding => 'base64'}, {stdin => 'eB==', encoding => 'base64'}, [], 'hello') {
        is(ask(POST => "/v1/runs/$id/stdin", $body)->{http}, 400, 'stdin: ' . (ref $body ? encode_json($body) : $body));
    }
    for my $body ({}, {signal => 2}, {signal => 'SEGV'}, {signal => 'RTMIN'}, {signal => '15'}, {signal => ''}) {
        is(ask(POST => "/v1/runs/$id/signal", $body)->{http}, 400, 'signal: ' . encode_json($body));
    }
    is(ask(POST => "/v1/runs/$id/$_->[0]", $_->[1], $other)->{http}, 404, "another key's run: $_->[0]") for ['stdin', {stdin => 'x'}], ['signal', {signal => 'INT'}];
    is(ask(POST => '/v1/runs/run_' . 'a' x 26 . "/$_->[0]", $_->[1])->{http}, 404, "a run that never was: $_->[0]") for ['stdin', {stdin => 'x'}], ['signal', {signal => 'INT'}];
    $s->close;
};

subtest 'signals' => sub {
    my ($s, $id) = begun(cmd => 'trap "echo interrupted" INT; trap "echo hup; exit 7" HUP; echo ready; while :; do sleep 0.1; done');
    my $r = signal($id, 'INT');
    is_deeply([@$r{qw(http id signal)}], [202, $id, 'INT'], 'accepted');
    is(wrote($s, "\n"), "interrupted\n", 'and taken');
    is(signal($id, 'SIGHUP')->{http}, 202, 'with SIG before it');
    my @events = $s->rest;
    is_deeply([@{$events[-1]{data}}{qw(exit_code stdout)}], [7, "ready\ninterrupted\nhup\n"], 'another') or diag(encode_json(\@events));
    is_deeply([@{signal($id, 'INT')}{qw(http code)}], [409, 'ended'], 'too late');
    for my $name (qw(INT TERM HUP USR1 USR2 QUIT KILL)) { # bash itself ignores QUIT
        ($s, $id) = begun(cmd => $name eq 'QUIT' ? q{exec perl -e '$| = 1; print "ready\n"; sleep 20'} : 'echo ready; sleep 20; echo late');
        signal($id, $name);
        my $end = ($s->rest)[-1]{data};
        is_deeply([@$end{qw(reason signal exit_code stdout)}], ['signal', $name, undef, "ready\n"], "$name, with its children") or diag(encode_json($end));
    }
    ($s, $id) = begun(cmd => 'echo ready; sleep 1.5; echo on');
    signal($id, 'STOP');
    ok(!defined $s->next(3), 'stopped');
    signal($id, 'CONT');
    is(wrote($s, "\n"), "on\n", 'and continued');
    ($s, $id) = begun(cmd => 'echo ready; sleep 30');
    is(signal($id, 'WINCH')->{http}, 202, 'WINCH is ignored by most');
    signal($id, 'KILL');
};

subtest 'a signal hits that run and nothing else' => sub {
    my ($long, $long_id) = begun(cmd => 'echo ready; sleep 3; echo unharmed', namespace_id => 'beside');
    my @ends;
    for my $i (1 .. 40) { # sent when the run is just over, or the next just begins
        my $s = stream(cmd => $i % 2 ? 'echo a' : 'echo a; echo b | cat', namespace_id => 'race');
        my $started = $s->next or diag(encode_json([$s->{status}, $s->{json}]));
        my $conn = $brood->connect;
        $conn->put(Brood::Conn->request(POST => "/v1/runs/$started->{data}{id}/signal", body => {signal => 'KILL'}, headers => {Authorization => "Bearer $token"}));
        $s->rest;
        my $next = $brood->request(POST => '/execute', body => {namespace_id => 'race', cmd => 'sleep 0.02; echo fine'}, headers => {Authorization => "Bearer $token"});
        push @ends, $next->{json}{stdout} // $next->{status};
        $conn->get(5);
    }
    is(scalar(grep { $_ eq "fine\n" } @ends), 40, 'the run behind it never') or diag("@ends");
    like(($long->rest)[-1]{data}{stdout}, qr/unharmed/, 'nor one of another namespace');
    my ($s, $id) = begun(cmd => 'echo ready; setsid sleep 20 & set -m; sleep 0.1 & wait %2; wait', namespace_id => 'groups');
    signal($id, 'TERM');
    my $end = ($s->rest)[-1]{data};
    is($end->{signal}, 'TERM', 'who left the group does not keep the run alive') or diag(encode_json($end));
    is(scalar(grep { ($_->{event} // '') =~ /zygote_(?:lost|overdue)|engine_bug/ } $brood->log_lines), 0, 'no zygote was lost');
};

subtest 'more signals than anybody can take' => sub {
    my ($s, $id) = begun(cmd => 'echo ready; read -r line; echo "$line"', stdin_open => \1, namespace_id => 'flood');
    my $request = Brood::Conn->request(POST => "/v1/runs/$id/signal", body => {signal => 'WINCH'}, headers => {Authorization => "Bearer $token"});
    my @conns = map { $brood->connect } 1 .. 4;
    $_->put($request x 500) for @conns;
    my %taken;
    for my $conn (@conns) { for (1 .. 500) { my $r = $conn->get(20); $taken{$r ? $r->{status} . ($r->{status} == 202 ? '' : " $r->{body}") : "none: $conn->{why}"}++ } }
    my $busy = '503 {"error":"too much is going on at the moment","code":"busy"}' . "\n";
    is(($taken{202} // 0) + ($taken{$busy} // 0), 2000, 'are accepted, or refused because they are too many') or diag(encode_json(\%taken));
    ok(($taken{202} // 0) > 500, "$taken{202} were accepted");
    feed($id, stdin => "well\n");
    is(($s->rest)[-1]{data}{stdout}, "ready\nwell\n", 'and harm nobody');
    is(scalar(grep { ($_->{event} // '') =~ /zygote_(?:lost|overdue)|engine_bug|client_dropped/ } $brood->log_lines), 0, 'no zygote was lost');
};

subtest 'over the socket' => sub {
    my $wire = Brood::Wire->new($brood);
    my $tag = $wire->send(ns => 'wire', cmd => 'touch wire-on; sleep 30');
    $brood->wait_file('wire-on');
    $wire->signal($tag, 15);
    is($wire->result($tag)->{signal}, 15, 'as over HTTP');
    $wire->signal($tag, 15);
    $tag = $wire->send(ns => 'wire', session => 'stays', cmd => 'x=kept; touch session-on; sleep 1.5; echo whole');
    $brood->wait_file('session-on');
    $wire->signal($tag, $_) for 15, 9;
    is($wire->result($tag)->{stdout}, "whole\n", 'a call of a session gets none');
    is($wire->run(ns => 'wire', session => 'stays', cmd => 'echo $x')->{stdout}, "kept\n", 'and the session lives');
    $wire->signal($wire->send(ns => 'wire', cmd => 'true'), 11);
    ok($brood->wait_log(qr/client_dropped.*not one that may be sent/), 'any other signal ends the connection');
};

subtest 'one that waits' => sub {
    my ($s, $id) = begun(cmd => 'echo ready; sleep 30', namespace_id => 'line');
    my $second = ask(POST => '/v1/runs', {cmd => 'echo second', namespace_id => 'line', detach => \1})->{id};
    is_deeply([@{signal($second, 'KILL')}{qw(http code)}], [409, 'queued'], 'has nobody to take a signal');
    $s->close;
    is(ended($second)->{stdout}, "second\n", 'and is none the worse');
};

$brood->stop;
done_testing;
