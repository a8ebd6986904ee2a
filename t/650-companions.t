# SPDX-License-Identifier: Apache-2.0
# Companions: what lives beside a namespace's runs has its files, network and users, its own processes and limits, a life
# that is bounded, and an end that is told. Commands stand for calls and terminals here: the engine knows no difference.
use lib 't/lib';
use Brood;
use Brood::Wire;

use constant {OK => 0, BAD_REQUEST => 1, ACTIVATION_FAILED => 4, NOT_FOUND => 6, BUSY => 7, INTERNAL => 8, TOO_MANY => 10};
use constant {CANCELLED => 8};

my %settings = ('sessions-per-namespace' => 2, 'sessions-max' => 5, 'terminals-per-namespace' => 1, 'terminals-max' => 2,
    'sessions-idle' => '600s', 'namespaces-active-max' => 4, 'namespaces-spares' => 1);
my $brood = Brood->start(%settings);
my $wire = Brood::Wire->new($brood);

sub in_session { my ($name, $cmd, %more) = @_; return $wire->run(ns => 'alice', session => $name, cmd => $cmd, %more) }
sub marked { return grep { (slurp("/proc/$_/cmdline") // '') =~ /^mark-me/ } $brood->pids('child') }
sub started { my ($file) = @_; return $brood->wait_file($file) }

ok(until_true(5, sub { $wire->stats->{ending} == 0 }), 'the zygotes of the probe, of which one was a companion, are gone');

# ---- the same namespace --------------------------------------------------------------------------
my $r = in_session(s1 => 'echo made > here; echo $$; hostname; id -u; pwd');
is($r->{outcome}, OK, 'a session is made by its first call') or diag($r->{text});
is($r->{new}, 1, '... and says so');
my ($pid, $host, $uid, $pwd) = split /\n/, $r->{stdout} // '';
is("$host $uid $pwd", 'alice 1000 /work', 'in the namespace, as its user, at home');
is($brood->sh(alice => 'cat here; echo run > there')->{stdout}, "made\n", 'a run sees its files');
is(in_session(s1 => 'cat there /tmp/t /dev/shm/s')->{stdout}, "run\n", 'and it those of a run');
is(in_session(s1 => 'true')->{new}, 0, 'it is the same one the next time');
$brood->sh(alice => 'echo 1 > /tmp/t; echo 2 > /dev/shm/s');
is(in_session(s1 => 'cat /tmp/t /dev/shm/s')->{stdout}, "1\n2\n", '/tmp and /dev/shm are the same');
for my $ns (qw(user mnt pid net ipc uts cgroup)) {
    my ($run, $session) = map { chomp(my $t = $_->{stdout}); $t } $brood->sh(alice => "readlink /proc/self/ns/$ns"), in_session(s1 => "readlink /proc/self/ns/$ns");
    my $shared = $ns =~ /user|net|ipc|uts/;
    ok($run =~ /^$ns/ && ($run eq $session) == !!$shared, "the ${ns}ns is " . ($shared ? 'shared' : 'its own')) or diag("$run $session");
}

# ---- beside each other ---------------------------------------------------------------------------
my $server = <<'PERL';
use IO::Socket::INET; my $l = IO::Socket::INET->new(Listen => 5, LocalAddr => "127.0.0.1", LocalPort => 7007) or die $!;
open my $f, ">", "listening"; close $f; while (my $c = $l->accept) { print $c "from the session\n"; close $c }
PERL
my $long = $wire->send(ns => 'alice', session => 's1', cmd => "perl -e '$server'");
ok(started('listening'), 'a server runs in a session');
is($brood->sh(alice => 'exec 3<>/dev/tcp/127.0.0.1/7007; cat <&3')->{stdout}, "from the session\n", '... and answers a run');
is($brood->sh(alice => 'kill -9 -1; pkill -9 perl; true')->{http}, 200, 'a run that kills all it can');
is($brood->sh(alice => 'exec 3<>/dev/tcp/127.0.0.1/7007; cat <&3')->{stdout}, "from the session\n", '... does not reach it');
my $begin = time;
is($brood->sh(alice => 'echo quick')->{stdout}, "quick\n", 'runs do not wait for the session');
is(in_session(s2 => 'echo other')->{stdout}, "other\n", 'nor does another session');
my $behind = $wire->send(ns => 'alice', session => 's1', cmd => 'echo behind');
my ($s1) = grep { $_->{session} eq 's1' } @{$wire->sessions('alice')->{entries}};
is("$s1->{busy} $s1->{queued} $s1->{companion}", '1 1 1', 'the list tells what is on and what waits');
is(scalar @{$wire->sessions('alice')->{entries}}, 2, '... of both of them');
is(scalar @{$wire->sessions('alice', companion => 'terminal')->{entries}}, 0, '... and no terminal');
is(scalar @{$wire->sessions('bob')->{entries}}, 0, 'another namespace has none');

# ---- how many ------------------------------------------------------------------------------------
$r = in_session(s3 => 'true');
is($r->{outcome}, TOO_MANY, 'a namespace has as many as it may');
like($r->{text}, qr/the namespace has 2 sessions/, "... and is told: $r->{text}");
my $t1 = $wire->send(ns => 'alice', terminal => 't1', cmd => 'touch t1; while [ ! -e t1-end ]; do read -t 0.05 < <(:) || :; sleep 0.02; done; echo bye');
ok(started('t1'), 'a terminal is counted by itself');
is($wire->run(ns => 'alice', terminal => 't2', cmd => 'true')->{outcome}, TOO_MANY, '... one a namespace here');
is($wire->run(ns => 'alice', terminal => 't1', cmd => 'true')->{outcome}, BAD_REQUEST, '... and takes one run');
is($wire->run(ns => $_, session => 'x', cmd => 'echo yes')->{stdout}, "yes\n", "$_ has a session, too") for qw(bob);
is($wire->run(ns => 'carol', session => 'x', cmd => 'true')->{outcome}, TOO_MANY, 'half of the places may be kept by companions');
is($brood->sh($_ => 'echo run')->{stdout}, "run\n", "the others are left for runs: $_") for qw(carol dave erin frank);
my $stats = $wire->stats;
is("$stats->{sessions} $stats->{terminals}", '3 1', 'statistics have their numbers');
cmp_ok($stats->{active}, '<=', 4, '... which are no active namespaces');

# ---- ends ----------------------------------------------------------------------------------------
$brood->sh(alice => 'touch t1-end');
$r = $wire->result($t1);
is("$r->{outcome} $r->{stdout}$r->{ended}", "0 bye\n1", 'a terminal ends with its run');
ok(until_true(5, sub { $wire->stats->{terminals} == 0 }), '... and is gone');
$r = $wire->close_session(alice => 's1');
is($r->{outcome}, OK, 'a session is closed');
$r = $wire->result($long);
is("$r->{outcome} $r->{reason} $r->{ended}", '0 ' . CANCELLED . ' 1', '... which cancels what it does');
like($r->{text}, qr/closed/, "... and says why: $r->{text}");
$r = $wire->result($behind);
is("$r->{outcome} $r->{reason} $r->{signal}", '0 ' . CANCELLED . ' 0', 'what waited for it did not begin');
is($wire->close_session(alice => 's1')->{outcome}, NOT_FOUND, 'it is there no longer');
is($wire->close_session(alice => 'never')->{outcome}, NOT_FOUND, 'nor is one that never was');
is(in_session(s1 => 'true')->{new}, 1, 'the next call makes another');

my $zygote = $brood->zygote_of('alice');
my $doomed = $wire->send(ns => 'alice', session => 's1', cmd => 'touch doomed; sleep 100');
my $queued = $wire->send(ns => 'alice', session => 's1', cmd => 'true');
ok(started('doomed'), 'a call is on');
kill KILL => $zygote;
$r = $wire->result($doomed);
is("$r->{outcome} $r->{ended}", INTERNAL . ' 1', 'the end of the zygote of its namespace ends it');
like($r->{text}, qr/ended with the zygote of its namespace/, "... and says so: $r->{text}");
is($wire->result($queued)->{outcome}, ACTIVATION_FAILED, '... also to who waited');
is(in_session(s1 => 'echo $((6 * 7))')->{stdout}, "42\n", 'the next call makes both anew');
is($brood->sh(alice => 'cat here')->{stdout}, "made\n", 'and the files are there');

my $on = $wire->send(ns => 'bob', session => 'x', cmd => 'touch busy; while [ ! -e over ]; do sleep 0.02; done');
ok(started('busy'), 'a call is on in bob');
is($wire->remove('bob')->{outcome}, BUSY, 'a namespace with a call is not removed');
$brood->sh(bob => 'touch over');
is($wire->result($on)->{outcome}, OK, 'it ends');
$t1 = $wire->send(ns => 'bob', terminal => 't', cmd => 'touch t; exec sleep 100');
ok(started('t'), 'there is a terminal, too');
is($wire->remove('bob')->{outcome}, OK, 'a removal ends sessions and terminals');
$r = $wire->result($t1);
is("$r->{outcome} $r->{reason}", '0 ' . CANCELLED, 'the terminal is told') or diag($r->{text});
is(scalar(grep { $_ eq 'bob' } $brood->volumes), 0, 'and nothing is left of bob');
is($wire->run(ns => 'bob', session => 'x', cmd => 'ls -A')->{stdout}, '', 'a new one is empty');

# ---- a client that goes; a zygote of its own that dies -----------------------------------------
my $other = Brood::Wire->new($brood);
$other->send(ns => 'alice', session => 's1', cmd => 'touch gone; sleep 100');
ok(started('gone'), 'a call of another client');
$other->close;
is(in_session(s1 => 'echo free')->{stdout}, "free\n", 'is cancelled when that goes, and the session goes on');
$other = Brood::Wire->new($brood);
$other->send(ns => 'alice', session => 's1', cmd => 'touch marked; (exec -a mark-me sleep 100)');
ok(started('marked') && until_true(5, sub { marked() }), 'another one');
my %zygotes = map { $_ => 1 } $brood->pids('zygote');
my ($own) = marked();
while ($own && !$zygotes{$own}) { $own = (slurp("/proc/$own/status") // '') =~ /^PPid:\s+(\d+)/m ? $1 : 0 } # up to its pid 1
undef $own if $own && $own == $brood->zygote_of('alice');
ok($own, 'its zygote is another process') && kill KILL => $own;
$r = $other->result(1);
is("$r->{outcome} $r->{ended}", INTERNAL . ' 1', 'whose death is told');
is($brood->sh(alice => 'echo unharmed')->{stdout}, "unharmed\n", '... and is nobody else\'s');
is(in_session(s1 => 'true')->{new}, 1, 'the next call makes another');
$other->close;

# ---- the end ---------------------------------------------------------------------------------------
my $t2 = $wire->send(ns => 'alice', terminal => 'last', cmd => 'touch last; exec sleep 100');
ok(started('last'), 'a terminal is open when the service stops');
$begin = time;
$brood->stop;
cmp_ok(time - $begin, '<', 8, 'a stop does not wait for it');
$wire->close;
is(join(' ', map { $_->{role} } $brood->processes), '', 'nobody is left');

# ---- idle ------------------------------------------------------------------------------------------
$brood = Brood->start(%settings, 'sessions-idle' => '1s', 'namespaces-idle' => '1s');
$wire = Brood::Wire->new($brood);
is($wire->run(ns => 'alice', session => 's', cmd => 'echo hi')->{stdout}, "hi\n", 'a session');
ok(until_true(8, sub { $wire->stats->{sessions} == 0 }), 'is ended when nobody calls it');
ok(until_true(8, sub { $wire->stats->{active} == 0 }), 'and then its namespace may be idle, too');
$brood->stop;
done_testing;
