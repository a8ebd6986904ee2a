# SPDX-License-Identifier: Apache-2.0
# Ten thousand jobs that wait: a submission takes as long as with an empty queue (p99 within three times), a status knows
# its place, the frontend's memory does not follow, and the next start has them all again.
use lib 't/lib';
use Brood;
use Brood::Jobs;
use Time::HiRes qw(time);

use constant {MANY => 10_000, CONNECTIONS => 16, ROUNDS => 10, BATCH => 40};

sub start_blocked {
    my $brood = Brood->start('languages-dir' => '', 'jobs-concurrency' => 1, 'log-level' => 'warn');
    my $id = submit($brood, 'sleep 280', timeout => 290)->{executionId};
    until_true(10, sub { status($brood, $id)->{status} eq 'running' }) or die 'it does not begin';
    return ($brood, $id);
}

sub rss_kb { my ($brood) = @_; my ($p) = grep { $_->{role} eq 'frontend' && $_->{pid} == ($brood->pids('frontend'))[0] } $brood->processes; return $p->{rss_kb} }

# The services are told apart by their processes: the empty one starts when the other is full.
my ($full, $stuck) = start_blocked();
my $before_kb = rss_kb($full);
my @conns = map { $full->connect } 1 .. CONNECTIONS;
my ($sent, $accepted, $first) = (0, 0);
my $begin = time;
while ($accepted < MANY) {
    my @now = @conns[0 .. (MANY - $sent < CONNECTIONS ? MANY - $sent : CONNECTIONS) - 1];
    $_->put(Brood::Conn->request(POST => '/submit', body => {language => 'bash', code => 'echo ' . ++$sent})) for @now;
    for (@now) {
        my $res = $_->get(30);
        $res && $res->{status} == 202 or BAIL_OUT('not accepted: ' . ($res ? $res->{body} : 'nothing'));
        $first //= $res->{json}{executionId};
        $accepted++;
    }
}
my $took = time - $begin;
is($accepted, MANY, sprintf '%d jobs wait, %.0f a second', MANY, MANY / $took);
my $grown_kb = rss_kb($full) - $before_kb;
ok($grown_kb < 24 * 1024, "the frontend has grown by less than 24 MiB: $grown_kb KiB");

my (%p99, $last);
my $submitted = 0;

# What else the machine does only adds to either: one series of five must hold.
for my $series (1 .. 5) {
    my ($empty, $stuck_too) = start_blocked();
    my %us;
    for my $round (1 .. ROUNDS) {
        for my $of ($round % 2 ? (['full', $full], ['empty', $empty]) : (['empty', $empty], ['full', $full])) {
            my ($name, $brood) = @$of;
            for (1 .. BATCH) {
                my $t = time;
                my $r = submit($brood, 'true');
                push @{$us{$name}}, (time - $t) * 1e6;
                $r->{http} == 202 or BAIL_OUT("$name: HTTP $r->{http}");
                ($last, $submitted) = ($r, $submitted + 1) if $name eq 'full';
            }
        }
    }
    %p99 = map { my @s = sort { $a <=> $b } @{$us{$_}}; $_ => $s[0.99 * @s] } keys %us;
    cancel($empty, $stuck_too);
    $empty->stop;
    last if $p99{full} <= 3 * $p99{empty};
}
ok($p99{full} <= 3 * $p99{empty}, sprintf 'p99 of a submission: %.0f us with %d that wait, %.0f us with none', $p99{full}, MANY, $p99{empty});
is($last->{queuePosition}, MANY + $submitted, 'its place is known');
cmp_ok(status($full, $first)->{queuePosition}, '<=', CONNECTIONS, 'and that of one of the first');

cancel($full, $stuck);
ended($full, $stuck);
$full->stop;
my $db = "$full->{fs_root}.state/store.db";
my $left = `sqlite3 $db 'select count(*) from jobs where state < 2'` + 0;
ok($left > MANY / 2, "$left wait in the store") if -x '/usr/bin/sqlite3';
$begin = time;
$full->restart;
ok(time - $begin < 10, sprintf 'the next start takes %.1f s', time - $begin);
is(ended($full, $first)->{status}, 'completed', 'they go on');
$full->stop;
done_testing;
