# SPDX-License-Identifier: Apache-2.0
# A run that was promised (detach: 202 with its id) is found from then on, whatever becomes of it: refused by the engine
# after all, or interrupted by the death of the frontend or of the service. What could not be promised is refused at once.
use lib 't/lib';
use Brood;
use Brood::Events;
use POSIX ();

require_layer('root');
my $brood = Brood->start('languages-dir' => '', 'runs-queue-max' => 2, 'runs-max-wait' => '3s', 'v1-runs-timeout-default' => '60s', 'v1-runs-timeout-max' => '60s');

sub ask {
    my ($method, $path, $body, %headers) = @_;
    my $res = $brood->request($method, $path, (defined $body ? (body => $body) : ()), headers => \%headers, timeout => 70) // {status => 0, headers => {}};
    return {http => $res->{status}, headers => $res->{headers}, ref $res->{json} eq 'HASH' ? %{$res->{json}} : ()};
}
sub detach { my ($cmd, %more) = @_; return ask(POST => '/v1/runs', {cmd => $cmd, detach => \1, namespace_id => 'alice', %more}, %{delete $more{headers} // {}}) }
sub listed { return {map { $_->{id} => $_ } @{ask(GET => '/v1/runs' . ($_[0] // ''))->{runs}}} }
# The frontend's pid, once it has lived so long that its death is none in a crash loop (supervisor/engine.c).
sub grown_up {
    my ($pid) = $brood->pids('frontend');
    until_true(10, sub {
        my ($began) = ((slurp("/proc/$pid/stat") // '') =~ /\) (.*)/)[0] =~ /^(?:\S+ ){19}(\d+)/;
        my ($up) = slurp('/proc/uptime') =~ /^(\S+)/;
        return $up - $began / POSIX::sysconf(&POSIX::_SC_CLK_TCK) > 1.2;
    }) or fail('the frontend grows old');
    return $pid;
}
sub killed { # the frontend; true when the next one serves
    my ($old) = @_;
    kill KILL => $old //= grown_up();
    delete $brood->{conn};
    return until_true(20, sub { my ($new) = $brood->pids('frontend'); $new && $new != $old }) && $brood->wait_ready(20);
}
my $busy;
sub occupy { $busy = $brood->post(alice => 'touch began-' . ++$_[0] . '; sleep 100', timeout => 200); return $brood->wait_file("began-$_[0]") }
sub is_failed {
    my ($id, $code, $what) = @_;
    my $r = ask(GET => "/v1/runs/$id?wait=20");
    is_deeply([@$r{qw(http id status reason exit_code)}, $r->{error}{code}], [200, $id, 'failed', 'internal', undef, $code], "$what: it failed, and why") or diag explain $r;
    return $r;
}
my $n = 0;

subtest 'refused after the 202' => sub {
    ok(occupy($n), 'its namespace is busy');
    my $run = detach('touch never');
    is_deeply([@$run{qw(http status)}], [202, 'queued'], 'accepted: it waits');
    is(listed()->{$run->{id}}, undef, 'what is under way is not listed');
    my $watcher = Brood::Events->open($brood, GET => "/v1/runs/$run->{id}/events");
    my $r = is_failed($run->{id}, 'queue_timeout', 'waited too long');
    like($r->{error}{message}, qr/max_wait/, 'in words');
    is($r->{stdout}, '', 'it wrote nothing');
    my @events = $watcher->rest(20);
    is_deeply([map { $_->{event} } @events], ['result'], 'who watched it has the result') or diag explain \@events;
    is($events[0]{data}{error}{code}, 'queue_timeout', 'which says so');
    is(listed('?status=failed')->{$run->{id}}{error}{code}, 'queue_timeout', 'it is listed');
    is(ask(DELETE => "/v1/runs/$run->{id}")->{http}, 409, 'it has ended');
    $busy->close;
    ok(killed(), 'the frontend dies');
    is_failed($run->{id}, 'queue_timeout', 'afterwards');
    is($brood->find('never'), undef, 'it never ran');
};

subtest 'refused before it' => sub {
    ok(occupy($n), 'its namespace is busy');
    my @waiting = map { detach('true')->{id} } 1, 2;
    my $full = detach('true');
    is_deeply([@$full{qw(http code)}], [503, 'queue_full'], 'a full queue is said at once');
    ok($full->{headers}{'retry-after'}, 'with Retry-After');
    is_failed($_, 'queue_timeout', 'one that waited') for @waiting;
    is(scalar(grep { ($_->{error}{code} // '') eq 'queue_full' } values %{listed()}), 0, 'nothing is stored of it');
    my $async = ask(POST => '/v1/runs', {cmd => 'true', namespace_id => 'alice'}, Prefer => 'respond-async');
    is($async->{http}, 202, 'Prefer: respond-async is the same promise');
    is_failed($async->{id}, 'queue_timeout', 'and kept');
    my $s = Brood::Events->open($brood, POST => '/v1/runs', body => {cmd => 'true', namespace_id => 'alice', detach => \1}, timeout => 20);
    is($s->{status}, 503, 'a stream that never began: its status');
    $busy->close;
};

subtest 'killed' => sub {
    my %id;
    my $pid = grown_up();
    $id{running} = detach('echo out; touch began-running; sleep 60', namespace_id => 'r')->{id};
    ok($brood->wait_file('began-running'), 'one runs');
    my $s = Brood::Events->open($brood, POST => '/v1/runs', body => {cmd => 'echo x; sleep 60', namespace_id => 's', detach => \1});
    my $first = $s->next(20);
    $id{streamed} = $first->{data}{id};
    like($id{streamed}, qr/^run_/, 'one is watched');
    my $own = ask(POST => '/v1/runs', {cmd => 'echo done', namespace_id => 'd', detach => \1});
    is(ask(GET => "/v1/runs/$own->{id}?wait=20")->{stdout}, "done\n", 'one has ended');
    is_deeply([grep { my $i = $_; grep { $_ eq $i } values %id } keys %{listed()}], [], 'those under way are not listed');
    ok(occupy($n), 'its namespace is busy');
    $id{waiting} = detach('touch never')->{id};
    ok(killed($pid), 'the frontend is killed while one waits');
    $busy->close;
    is_failed($id{$_}, 'interrupted', $_) for sort keys %id;
    is(ask(GET => "/v1/runs/$own->{id}")->{stdout}, "done\n", 'what had ended is as it was');
    my $list = listed('?status=failed');
    is_deeply([map { $list->{$id{$_}}{error}{code} } sort keys %id], [('interrupted') x 3], 'they are listed');
    my $again = Brood::Events->open($brood, GET => "/v1/runs/$id{streamed}/events", last => 2);
    my @events = $again->rest(20);
    is_deeply([map { $_->{event} } @events], ['gap', 'result'], 'who comes again hears of a gap, and the result') or diag explain \@events;
    is(Brood::Events->open($brood, GET => "/v1/runs/$id{streamed}/events", last => $events[-1]{id})->{status}, 204, 'and then to stay away');
    $brood->restart;
    is_failed($id{$_}, 'interrupted', "$_, after a restart") for sort keys %id;
    is($brood->find('never'), undef, 'what waited never ran');
};

subtest 'killed at any time' => sub {
    my (@told, @wrong);
    for my $round (1 .. 8) {
        my $pid = grown_up();
        my @conns = map { $brood->connect } 1 .. 6;
        my $body = sub { return {cmd => 'true', namespace_id => "at-$_[0]", detach => \1} };
        $conns[$_]->put(Brood::Conn->request(POST => '/v1/runs', body => $body->($_), headers => {'Idempotency-Key' => "k$round-$_"})) for 0 .. $#conns;
        select undef, undef, undef, 0.0015 * $round;
        ok(killed($pid), "round $round");
        for my $i (0 .. $#conns) {
            my $res = $conns[$i]->get(20);
            my $id = $res && $res->{status} == 202 ? $res->{json}{id} : undef;
            my $again;
            until_true(20, sub { $again = ask(POST => '/v1/runs', $body->($i), 'Idempotency-Key' => "k$round-$i"); $again->{http} == 202 || ($again->{code} // '') eq 'attempt_lost' });
            push @wrong, "$round: $id was answered, then $again->{http}" if $id && ($again->{id} // '') ne $id;
            push @told, $again->{id} if $again->{http} == 202;
        }
    }
    for my $id (@told) {
        my $r = ask(GET => "/v1/runs/$id?wait=20");
        push @wrong, "$id: $r->{http}" unless $r->{http} == 200 && ($r->{status} eq 'succeeded' || ($r->{error}{code} // '') eq 'interrupted');
    }
    is_deeply(\@wrong, [], @told . ' runs that were promised, all are found, and a repetition names the same');
};
$brood->stop;
done_testing;
