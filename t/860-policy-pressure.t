# SPDX-License-Identifier: Apache-2.0
# The attacker may choose among policies and limits, and orders runs, cancels, removals and (as a careless operator) reloads so
# that they meet: nobody else's start may starve, nothing may wait for ever, no run may keep what its policy no longer has.
use lib 't/lib';
use Brood;
use File::Temp qw(tempdir);
use Time::HiRes qw(time);

require_layer('root', 'cgroup', 'python3');
my $dir = tempdir(CLEANUP => 1);
my $policy = "$dir/policy.yaml";
my $text = <<'YAML';
policies:
  default: {memory_mb: 256}
  other: {nofile: 99}
  another: {nofile: 98}
namespaces:
  - {match: "k-*", policy: default}
  - {match: "*", policy: default, may_ask: [other, another]}
YAML
spew($policy, $text);

sub reload_to {
    my ($brood, $new) = @_;
    my $count = () = (slurp($brood->{log}) // '') =~ /"event":"policies"/g;
    spew($policy, $new);
    $brood->signal('HUP');
    return until_true(10, sub { (() = slurp($brood->{log}) =~ /"event":"policies"/g) > $count });
}

# What the engine counts.
sub count {
    my ($brood, $what) = @_;
    my ($n) = qx(${\ Brood::build()}/brood stats --socket $brood->{socket}) =~ /^$what\s+(\d+)/m;
    return $n // -1;
}
sub queued { return count($_[0], 'queued') }

subtest 'a run that needs another zygote waits no longer than others' => sub {
    my $brood = Brood->start('policy-file' => $policy, 'namespaces-active-max' => 1, 'namespaces-spares' => 1, 'runs-max-wait-ms' => 1500);
    my ($priv) = $brood->pids('priv');
    $brood->sh(alice => ':');
    ok(until_true(5, sub { count($brood, 'spares') == 1 }), 'there is a spare for the next');
    kill STOP => $priv;    # her zygote is being ended while bob comes
    my $replaced = $brood->post(alice => 'echo never', policy => 'other');
    ok(until_true(5, sub { queued($brood) == 1 }), 'one waits for another zygote');
    my $long = $brood->post(bob => 'sleep 4');
    ok(until_true(5, sub { queued($brood) == 2 }), 'the next for a place');
    kill CONT => $priv;
    my $begin = time;
    my $r = $brood->result($replaced, 20);
    my $took = time - $begin;
    cmp_ok($took, '<', 3, "an answer after $took s, not when the place is free again");
    is($r->{error}{code} // $r->{reason}, 'queue_timeout', '... which says why') or diag explain $r;
    is($brood->result($long, 20)->{reason}, 'exit', 'the place went to who waited for it');
    $brood->stop;
};

subtest 'a removal that comes before the namespace is ready' => sub {
    my $brood = Brood->start('policy-file' => $policy);
    $brood->sh(gone => 'echo old >file');
    $brood->restart;
    my ($priv) = $brood->pids('priv');
    my $client = <<'PYTHON';
import array, os, socket, struct, sys
def frame(kind, body): return b"brd1" + struct.pack("<HH", kind, 0) + body
def text(field, b): return bytes([field << 3 | 2, len(b)]) + b
s = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET); s.connect(sys.argv[1]); s.settimeout(8); s.recv(32776)
null = os.open("/dev/null", os.O_RDWR)
s.sendmsg([frame(2, b"\x08\x01" + text(2, b"gone") + text(3, b"id"))], [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", [null] * 3))])
s.send(frame(3, b"\x08\x01"))   # cancel
s.send(frame(9, b"\x08\x07" + text(2, b"gone")))   # remove
while s.recv(32776)[4] != 4: pass
print("cancelled", flush=True)
while True:
    answer = s.recv(32776)
    if answer[4] == 10: break
print("ok" if len(answer) == 10 else answer, flush=True)
PYTHON
    spew("$dir/client.py", $client);
    kill STOP => $priv;    # the volume is asked for, and not there yet
    open my $said, '-|', 'python3', "$dir/client.py", $brood->{socket} or die;
    is(scalar <$said>, "cancelled\n", 'the run is taken back while the volume is on its way');
    kill CONT => $priv;
    is(scalar <$said> // 'no answer', "ok\n", 'the removal is answered');
    close $said;
    is($brood->sh(gone => 'cat file 2>/dev/null; echo new >file')->{stdout}, '', 'it is gone');
    is($brood->sh(gone => 'cat file')->{stdout}, "new\n", '... and what comes after it stays');
    $brood->stop;
};

subtest 'a queued run, and a policy that has become tighter' => sub {
    my $brood = Brood->start('policy-file' => $policy);
    my $running = $brood->post(alice => 'touch begun; sleep 2');
    ok($brood->wait_file('begun'), 'a run is on');
    my $queued = $brood->post(alice => 'sleep 20', timeout => 8);
    ok(until_true(5, sub { queued($brood) == 1 }), 'the next is queued, with a long deadline');
    (my $tight = $text) =~ s/memory_mb: 256/memory_mb: 256, timeout_max_ms: 1000/;
    ok(reload_to($brood, $tight), 'other policies are in force');
    $brood->result($running, 20);
    my $r = $brood->result($queued, 30);
    is($r->{reason}, 'timeout', 'it ends at a deadline');
    cmp_ok($r->{wall_ms}, '<', 5000, '... which is the new one');
    spew($policy, $text);
    $brood->stop;
};

subtest 'who changes policies all the time does not keep others from starting' => sub {
    my $brood = Brood->start('policy-file' => $policy, 'namespaces-spares' => 1);
    my (%on, %next);
    my $more = sub { $on{$_[0]} = $brood->post("a-$_[0]" => ':', policy => $next{$_[0]}++ % 2 ? 'other' : 'another') };
    $more->($_) for 1 .. 100;
    my (@took, $churn);
    for my $i (1 .. 8) {
        my $begin = time;
        my $victim = $brood->post("k-$i" => ':');
        until (my $there = $victim->readable) {
            for (grep { $on{$_}->readable } keys %on) { $brood->result($on{$_}, 10); $more->($_); $churn++ }
            last if time - $begin > 5;
            select undef, undef, undef, 0.001;
        }
        push @took, time - $begin;
        last if $took[-1] > 5;
        $brood->result($victim, 10);
    }
    $brood->result($_, 20) for values %on;
    ok($churn, 'they did change');
    diag sprintf 'median %.0f ms, worst %.0f ms, %d others', 1000 * median(@took), 1000 * (sort { $a <=> $b } @took)[-1], $churn;
    cmp_ok((sort { $a <=> $b } @took)[-1], '<', 3, 'a cold start beside it');
    $brood->stop;
};

# A limit below what the namespace holds makes the kernel write back its dirty pages first, as long as that takes.
subtest 'memory that has to be got back is waited for by its owner alone' => sub {
    my $brood = Brood->start('policy-file' => $policy, 'namespaces-spares' => 4);
    my @parts;
    for my $round (1 .. 3) {
        is($brood->sh(fat => 'head -c 230000000 /dev/zero >dirty')->{reason}, 'exit', 'much is dirty');
        my $limited = $brood->post(fat => ':', limits => {memory_mb => 16});
        until_true(5, sub { queued($brood) == 1 || $limited->readable });    # it is under way
        my $begin = time;
        $brood->sh("k-$round" => ':');
        my $took = 1000 * (time - $begin);
        my $r = $brood->result($limited, 60);
        push @parts, $took / ($r->{queue_ms} // 1);
        diag sprintf 'a start beside %.0f ms of that: %.1f ms', $r->{queue_ms} // 0, $took;
    }
    cmp_ok(median(@parts), '<', 0.5, 'another namespace starts meanwhile');
    is($brood->sh(fat => ':')->{reason}, 'exit', 'and it has its own limit again');
    $brood->stop;
};

# What was asked of priv for the policies of a moment ago is asked again; nobody is told of it.
subtest 'reloads while zygotes are started' => sub {
    my $brood = Brood->start('policy-file' => $policy, 'namespaces-spares' => 2);
    my (%on, %said, $n, $last, $i);
    my @texts = map { my $nofile = 100 + $_; $text =~ s/memory_mb: 256/memory_mb: 256, nofile: $nofile/r } 0, 1;
    my $end = time + 4;
    $last = time;
    while (time < $end || %on) {
        for (grep { !$on{$_} } time < $end ? 1 .. 6 : ()) {
            $on{$_} = $brood->post('c-' . ++$n => 'ulimit -n');
        }
        if (time - $last > 0.1 && time < $end) {
            spew("$policy.new", $texts[$i++ % 2]);
            rename "$policy.new", $policy;
            $brood->signal('HUP');
            $last = time;
        }
        for (grep { $on{$_}->readable } keys %on) {
            my $r = $brood->result(delete $on{$_}, 10);
            $said{$r->{http} == 200 ? $r->{stdout} =~ s/\n//r : "$r->{http} " . ($r->{error}{message} // '')}++;
        }
        last if time > $end + 10;
        select undef, undef, undef, 0.001;
    }
    ok(!%on, 'every run is answered');
    is(join(' ', grep { !/^10[01]$/ && $_ ne '1024' } sort keys %said), '', 'none is told of a reload') or diag explain \%said;
    ok($said{100} && $said{101}, "both kinds were in force, over $i reloads and $n runs");
    unlike(slurp($brood->{log}), qr/zygote_start_failed/, 'no start failed');
    spew($policy, $text);
    $brood->stop;
};

# Before the first zygote has proven the layers nothing may change under it.
subtest 'a reload at any moment of a start' => sub {
    (my $new = $text) =~ s/memory_mb: 256/memory_mb: 300, nofile: 77/;
    my $listened = 0;
    for my $ms (map({ 2 * $_ } 2 .. 12), 100, 400) {
        spew($policy, $text);
        my $brood = Brood->start('policy-file' => $policy, ready => 0);
        select undef, undef, undef, $ms / 1000;
        spew($policy, $new);
        $brood->signal('HUP');
        my $is_up = $brood->wait_ready(10);
        if ($brood->exited && $brood->{status} == 1 && (slurp($brood->{log}) // '') eq '') {
            pass("$ms ms: it did not listen to signals yet, nor had it begun anything");
            next;
        }
        ok($is_up, "ready, with SIGHUP after $ms ms") or diag $brood->log_tail;
        next if !$is_up;
        $listened++;
        is($brood->sh(alice => 'ulimit -n')->{stdout}, "77\n", '... and what was read then is in force')
          if until_true(5, sub { slurp($brood->{log}) =~ /"event":"policies"/ });
        $brood->signal('KILL');
        $brood->wait_exit(5);
    }
    cmp_ok($listened, '>', 0, "some of them listened: $listened");
};

done_testing;
