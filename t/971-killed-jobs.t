# SPDX-License-Identifier: Apache-2.0
# The promise of POST /submit: 2,000 jobs are submitted while kill -9 hits the frontend, the engine, priv, zygotes, the
# primordial or all of them at once, fifty times, and the service is started again. Then: every job whose 202 was seen
# has ended, once; none is lost; none was begun more often than jobs.attempts_max; a completed one ran; no output is cut
# or mixed; and what /status said never went backwards.
#
#   JOBS=2000 KILLS=50   as many
use lib 't/lib';
BEGIN { $ENV{FILE_SECONDS} ||= 600 }
use Brood;
use Brood::Jobs;
use Mojo::JSON qw(decode_json);
use Time::HiRes qw(time);

require_layer('root', 'cgroup', 'sqlite3');

my ($jobs, $kills) = ($ENV{JOBS} // 2000, $ENV{KILLS} // 50);
use constant {NAMESPACES => 12, ATTEMPTS => 3};
my $seed = $ENV{SEED} // time;
srand $seed;
diag("SEED=$seed") if $ENV{SEED};
my $brood = Brood->start('languages-dir' => '', 'jobs-attempts-max' => ATTEMPTS, 'runs-queue-max' => 64);
my $db = "$brood->{fs_root}.state/store.db";

my %rank = (queued => 0, running => 1, completed => 2, failed => 2, timeout => 2);
my (%acked, %seen, @backwards, %killed, @newest);
my ($unanswered, $over) = (0, 0);

# What job n does and writes. One in four has no namespace: its runs leave nothing that could be counted.
sub ns_of { my ($n) = @_; return $n % 4 ? 'ns-' . $n % NAMESPACES : undef }
sub code_of {
    my ($n) = @_;
    my $count = defined ns_of($n) ? "echo $n >>/work/ran; " : '';
    return "${count}for i in 1 2 3; do echo out-$n-\$i; echo err-$n-\$i >&2; done; sleep 0.00\$((RANDOM % 9 + 1)); echo end-$n";
}
sub wanted { my ($n) = @_; return join('', map { "out-$n-$_\nerr-$n-$_\n" } 1 .. 3) . "end-$n\n" }

sub body_of { my ($n) = @_; return {language => 'bash', code => code_of($n), userId => "user-$n", priority => $n % 10, defined ns_of($n) ? (namespace_id => ns_of($n)) : ()} }

# Several at once, over connections of their own; whoever has no answer was perhaps not heard.
sub submit_some {
    my ($on_half, @some) = @_;
    my @conns = map { [$_, $brood->connect] } @some;
    for (@conns) {
        my ($n, $conn) = @$_;
        $conn->put(Brood::Conn->request(POST => '/submit', body => body_of($n))) if $conn;
    }
    $on_half->();
    my @again;
    for (@conns) {
        my ($n, $conn) = @$_;
        my $res = $conn && $conn->get(15);
        if ($res && $res->{status} == 202) { $acked{$res->{json}{executionId}} = $n; push @newest, $res->{json}{executionId} }
        else { $unanswered += !$res; push @again, $n }
    }
    splice @newest, 0, -10;
    return @again;
}

sub look {
    my ($id) = @_;
    my $s = status($brood, $id, timeout => 10);
    return unless $s->{http};
    push @backwards, "$id: HTTP $s->{http}" if $s->{http} != 200 && $s->{http} != 503;
    return unless $s->{http} == 200;
    my $before = $seen{$id};
    push @backwards, "$id: $before, then $s->{status}" if defined $before && ($rank{$s->{status}} < $rank{$before} || ($rank{$before} == 2 && $before ne $s->{status}));
    $seen{$id} = $s->{status};
}

sub up_again {
    until_true(20, sub { $brood->exited || (!$over && $brood->wait_ready(0.2)) }) or BAIL_OUT('neither up nor gone');
    $over = 0;
    return if $brood->{pid};
    until_true(20, sub { !$brood->processes }) or BAIL_OUT('something of it survives');
    $brood->_spawn;
    $brood->wait_ready(20) or BAIL_OUT("it does not start again:\n" . $brood->log_tail);
}

my @victims = qw(frontend frontend engine priv zygote zygote zygote primordial all);
sub strike {
    my $who = $victims[rand @victims];
    my @pids = $who eq 'all' ? map { $_->{pid} } $brood->processes : $who eq 'priv' ? $brood->{pid} : $brood->pids($who);
    @pids = $pids[rand @pids] if $who eq 'zygote' && @pids;
    kill KILL => @pids if @pids;
    $killed{$who}++;
    delete $brood->{conn};
    $over = $who =~ /^(?:engine|priv|all)$/ && @pids; # the service is, in a moment
}

my @todo = 1 .. $jobs;
my @running; # those that were looked at just before a strike: they are, just after it
for my $round (1 .. $kills) {
    my @now = splice @todo, 0, 1 + int(@todo / ($kills - $round + 1));
    while (my @some = splice @now, 0, 40) {
        push @todo, submit_some(@now ? sub { } : sub { select undef, undef, undef, rand 0.03; look($_) for @running = @newest; strike() }, @some);
    }
    up_again();
    look($_) for @running, (keys %acked)[map { int rand keys %acked } 1 .. 20];
}
for (1 .. 5) {
    last unless @todo;
    @todo = map { submit_some(sub { }, $_) } splice @todo;
}
diag('killed: ' . join(', ', map { "$_ $killed{$_}" } sort keys %killed) . '; ' . keys(%acked) . " acknowledged, $unanswered without an answer") if $ENV{VERBOSE};
is(scalar @todo, 0, 'all are accepted in the end');
for my $id (keys %acked) {
    my $s = ended($brood, $id);
    $seen{$id} //= 'queued';
    push @backwards, "$id: $seen{$id}, then $s->{status}" if $rank{$seen{$id}} == 2 && $seen{$id} ne $s->{status};
}
look($_) for keys %acked;
is_deeply(\@backwards, [], 'no status ever went backwards');
my %ran;
for my $ns (map { "ns-$_" } 0 .. NAMESPACES - 1) {
    $ran{$_}++ for split /\n/, $brood->sh($ns => 'cat /work/ran 2>/dev/null')->{stdout};
}
$brood->stop;

my %rows;
for (split /\n/, `sqlite3 -separator ' ' $db "select id, state, attempts, output_bytes, length(body) from jobs"`) {
    my ($id, @row) = split / /;
    $rows{$id} and fail("$id is there twice");
    $rows{$id} = \@row;
}
my (@lost, @open, @often, @never, @wrong, %ends);
my %of_n;
push @{$of_n{$acked{$_}}}, $_ for keys %acked;
for my $id (keys %acked) {
    my $row = $rows{$id} or do { push @lost, $id; next };
    my ($state, $attempts, $bytes, $body) = @$row;
    push @open, $id if $state < 2 || $body;
    push @often, $id if $attempts < 1 || $attempts > ATTEMPTS;
    $ends{$state}++;
    my $n = $acked{$id};
    my $text = slurp("$brood->{fs_root}.state/outputs/$id.txt") // 'none';
    push @wrong, "$id: $text" if length $text != $bytes || ($state == 2 && $text ne wanted($n));
    push @never, $id if $state == 2 && defined ns_of($n) && !$ran{$n};
}
is_deeply(\@lost, [], keys(%acked) . ' acknowledged jobs, none lost');
is_deeply(\@open, [], 'each has ended');
is_deeply(\@often, [], 'with one to three attempts');
is_deeply(\@never, [], 'whoever completed has run');
is_deeply(\@wrong, [], 'no output is cut, mixed or missing');
# A submission without an answer may have been accepted as well: then n has two jobs.
my %jobs_of;
$jobs_of{$_}++ for map { s/^user-//r } split /\n/, `sqlite3 $db "select cast(user as text) from jobs"`;
my @too_often = grep { $ran{$_} > ATTEMPTS * ($jobs_of{$_} // 0) } keys %ran;
is_deeply(\@too_often, [], 'none was begun more often than allowed');
my $rows = keys %rows;
is(scalar(() = glob "$brood->{fs_root}.state/outputs/*"), $rows, 'as many outputs as jobs') if $rows;
is(`sqlite3 $db "select count(*) from jobs where state < 2"`, "0\n", 'nobody waits, acknowledged or not');
ok(($ends{2} // 0) > 0.9 * keys %acked, 'nearly all completed') or diag(join ', ', map { "$_: $ends{$_}" } sort keys %ends);
is(`sqlite3 $db "select runs, bytes from totals"`, `sqlite3 $db "select count(*), total(bytes) from jobs" | sed 's/\\.0\$//'`, 'totals add up');
done_testing;
