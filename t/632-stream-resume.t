# SPDX-License-Identifier: Apache-2.0
# A hundred megabytes through a proxy that cuts its connections again and again, with a reset, so that whatever is on
# its way is lost: who asks for stream.keep "all" and says which event it had last loses no byte of it. Without, what
# is lost is told, and nothing comes twice. A minute's cuts and stalls are scaled to tenths of seconds.
use lib 't/lib';
use Brood;
use Brood::Events;
use Digest::SHA;
use IO::Select;
use IO::Socket::INET;
use POSIX ();
use Socket qw(SOL_SOCKET SO_LINGER);
use Time::HiRes qw(time);

use constant {BYTES => 100_000_000, CUT_S => 0.15};

my $brood = Brood->start(tcp => 1, 'http-threads' => 2, 'v1-runs-timeout-max' => '150s', 'v1-runs-timeout-default' => '150s',
    'v1-runs-cpu-max' => '150s', 'v1-runs-cpu-default' => '150s', 'streams-ring-kb' => 512);

# Copies both ways; every CUT_S all connections that are open get a reset. SIGUSR1: no more cuts.
sub proxy {
    my ($to) = @_;
    my $listener = IO::Socket::INET->new(Listen => 16, LocalAddr => '127.0.0.1', LocalPort => 0) or die "no port: $@";
    my $port = $listener->sockport;
    defined(my $pid = fork) or die "fork: $!";
    return ($port, $pid) if $pid;
    my $set = IO::Select->new($listener);
    my (%peer, %sock);
    my $next = time + CUT_S;
    my $cut = sub {
        for (values %sock) { setsockopt $_, SOL_SOCKET, SO_LINGER, pack('II', 1, 0); $set->remove($_); close $_ }
        %peer = %sock = ();
    };
    $SIG{PIPE} = 'IGNORE';
    while (1) {
        my $left = $next - time;
        if ($left <= 0) { $cut->(); $next = time + CUT_S; next }
        for my $from ($set->can_read($left)) {
            if ($from == $listener) {
                my $client = $listener->accept or next;
                my $server = IO::Socket::INET->new(PeerAddr => '127.0.0.1', PeerPort => $to) or next;
                for ([$client, $server], [$server, $client]) {
                    $sock{fileno $_->[0]} = $_->[0];
                    $peer{fileno $_->[0]} = $_->[1];
                    $set->add($_->[0]);
                }
                next;
            }
            my $other = $peer{fileno $from} or next;
            my $n = sysread $from, my $bytes, 1 << 16;
            my $at = 0;
            while ($n && $at < $n) { my $m = syswrite $other, $bytes, $n - $at, $at or last; $at += $m }
            next if $n && $at == $n;
            for ($from, $other) { $set->remove($_); delete $peer{fileno $_}; delete $sock{fileno $_} }
            close $_ for $from, $other;
        }
    }
}
my ($port, $proxy) = proxy($brood->{port});
END { if ($proxy) { local $?; kill KILL => $proxy; waitpid $proxy, 0 } }

# Follows a run to its end through the proxy; what was heard: bytes are hashed, numbers must follow each other.
sub follow {
    my ($body, $slowly) = @_;
    my %heard = (last => 0, bytes => 0, gaps => 0, missing => 0, connections => 0, again => 0);
    my $sha = Digest::SHA->new(256);
    my $deadline = time + 140;
    while (time < $deadline && !$heard{result}) {
        my @to = $heard{id} ? (GET => "/v1/runs/$heard{id}/events", ($heard{last} ? (last => $heard{last}) : ())) : (POST => '/v1/runs', body => $body);
        my $s = Brood::Events->open($brood, @to, port => $port, ndjson => 1, timeout => 5);
        $heard{connections}++;
        next unless $s && $s->{status};
        if ($s->{status} != 200) { diag("$s->{status} for event $heard{last}"); last }
        do {
            while ($s->{text} =~ s/\A\{"id":(\d+),"event":"(\w+)","data":(?:\{"text":"([^"]*)"\})?([^\n]*)\}\n//) {
                my ($id, $event, $text, $data) = ($1, $2, $3, $4);
                if ($event eq 'gap') {
                    my ($from, $to) = $data =~ /\{"from":(\d+),"to":(\d+)\}/;
                    $heard{again}++ if $from != $heard{last} + 1;
                    $heard{gaps}++;
                    $heard{missing} += $to - $from + 1;
                } elsif ($id != $heard{last} + 1) {
                    $heard{again}++;
                }
                $heard{last} = $id;
                $heard{id} //= $1 if $data =~ /"id":"(run_\w+)"/;
                if (defined $text) {
                    $text =~ s/\\n/\n/g;
                    $heard{bytes} += length $text;
                    $sha->add($text);
                }
                $heard{result} = $data if $event eq 'result';
                $heard{error} = $data if $event eq 'error';
            }
            select undef, undef, undef, 0.05 if $slowly;
        } while $s->_chunk(time + 20);
        # A client that is cut before it knows the id cannot find its run again: it starts another.
    }
    $heard{sha} = $sha->hexdigest;
    return \%heard;
}

# What `seq` writes, in pieces.
my $want = Digest::SHA->new(256);
my $cmd = 'seq -w 1 99999999 | head -c ' . BYTES;
{
    open my $seq, '-|', $cmd or die "seq: $!";
    $want->addfile($seq);
    close $seq;
}
$want = $want->hexdigest;

subtest 'keep all: nothing is lost' => sub {
    my $h = follow({cmd => $cmd, detach => \1, stream => {keep => 'all'}});
    ok($h->{result}, 'it came to its end') or diag(join ' ', map { "$_=" . ($h->{$_} // '') } sort keys %$h);
    is($h->{gaps}, 0, 'no gap');
    is($h->{again}, 0, 'no event twice, none left out');
    is($h->{bytes}, BYTES, 'each byte');
    is($h->{sha}, $want, 'and the right one');
    cmp_ok($h->{connections}, '>', 20, "over $h->{connections} connections");
    like($h->{result} // '', qr/"stdout_bytes":${\BYTES},/, 'as many as the run wrote');
};

subtest 'keep last: what is lost is told' => sub {
    my $h = follow({cmd => 'seq -w 1 99999999 | head -c 30000000', detach => \1});
    ok($h->{result}, 'it came to its end') or diag(join ' ', map { "$_=" . ($h->{$_} // '') } sort keys %$h);
    is($h->{again}, 0, 'no event twice, none left out without a word');
    ok($h->{gaps} > 0 || $h->{bytes} == 30_000_000, "$h->{gaps} gaps, $h->{missing} events");
    cmp_ok($h->{bytes}, '<=', 30_000_000, 'no more than was written');
};

subtest 'without anybody' => sub {
    my $res = $brood->request(POST => '/v1/runs', body => {cmd => 'head -c 5000000 /dev/zero | tr "\0" x; touch done-all', namespace_id => 'all', detach => \1, stream => {keep => 'all'}});
    my $id = $res->{json}{id};
    ok(!until_true(1.5, sub { $brood->find('done-all') }), 'a run with keep all waits for its reader');
    my ($last, $text, $rounds) = (0, 0, 0);
    while (++$rounds < 100) {
        my $s = Brood::Events->open($brood, GET => "/v1/runs/$id/events", ndjson => 1, ($last ? (last => $last) : ()));
        my @events = $s->rest;
        is($s->{ended}, 1, 'a full ring ends the answer') unless $events[-1]{event} eq 'result';
        $text += length Brood::Events::text_of(stdout => @events);
        $last = $events[-1]{id};
        last if $events[-1]{event} eq 'result';
    }
    is($text, 5_000_000, "all of it in $rounds rounds");
    ok($brood->find('done-all'), 'and goes on');
    $res = $brood->request(POST => '/v1/runs', body => {cmd => 'head -c 5000000 /dev/zero | tr "\0" x', detach => \1});
    $id = $res->{json}{id};
    is($brood->request(GET => "/v1/runs/$id?wait=30", timeout => 40)->{json}{status}, 'succeeded', 'without it, it goes on alone');
    my @events = Brood::Events->open($brood, GET => "/v1/runs/$id/events")->rest;
    is($events[0]{event}, 'gap', 'who comes later is told what is missing');
    my $tail = length Brood::Events::text_of(stdout => @events);
    ok($tail > 300_000 && $tail <= 512 * 1024 + 131_072, "and gets the last of it: $tail bytes");
};

kill KILL => $proxy;
waitpid $proxy, 0;
$proxy = 0;
$brood->stop;
done_testing;
