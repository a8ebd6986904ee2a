# SPDX-License-Identifier: Apache-2.0
# Brood::Killed - brings a service into a state, deterministically, so that a test can kill -9 somebody in it.
#
#   my $brood = start_one('namespaces-spares' => 0);
#   my $held = hold_attaching($brood, 'alice');  # {conn: the request under way, stopped: [pids], zygote: its pid, ...}
#   kill_now($held->{zygote});
#   go_on($held);                                # whoever was stopped, so that the state could not pass, goes on
#   is_answered($brood, 'alice', $held, 'activation_failed', 'what');
#   $brood->stop; is_clean($brood, 'what');
#
# A state is held, not hit: whoever would end it is stopped by SIGSTOP.
package Brood::Killed;
use strict;
use warnings;
use Brood;
use Exporter qw(import);
use Test::More;
use Time::HiRes qw(time);

our @EXPORT = qw(IN_TIME start_one stats wait_stat state_of kill_now stop_next_child is_zygote victim go_on is_answered is_over is_clean
  is_nothing_left hold_starting hold_attaching hold_assigning hold_ready hold_limiting hold_busy hold_dying hold_removing);
use constant IN_TIME => 8; # seconds, for what takes milliseconds on a quiet machine

my $NARROW = {limits => {pids => 20}}; # other cgroup limits than those of the default policy
my %before = map { $_ => 1 } Brood->mounts;

# ---- what is there ------------------------------------------------------------------------------

sub start_one {
    return Brood->start('namespaces-spares' => 1, 'namespaces-standby-idle-ms' => 3600000, @_);
}

sub stats {
    my ($brood) = @_;
    my $text = `${\Brood::build()}/brood stats --socket $brood->{socket} 2>/dev/null`;
    return {$text =~ /^(\w+) +(\d+)$/mg};
}

sub wait_stat {
    my ($brood, $name, $value) = @_;
    my $now;
    until_true(IN_TIME, sub { $now = stats($brood)->{$name} // -1; $now == $value }) or fail("$name is $now instead of $value");
}

sub state_of {
    my ($pid) = @_;
    return (slurp("/proc/$pid/stat") // '') =~ /\) (\w) / ? $1 : 'gone';
}

sub stop {
    my ($pid) = @_;
    kill STOP => $pid;
    until_true(IN_TIME, sub { state_of($pid) eq 'T' }) or fail("$pid stops instead of " . state_of($pid));
    return $pid;
}

sub kill_now {
    my ($pid) = @_;
    $pid && $pid > 1 or return fail('there is nobody to kill'); # 0 would be our own process group
    kill KILL => $pid;
    # All its threads: only the last one closes the descriptors.
    until_true(IN_TIME, sub { !grep { (slurp("$_/stat") // ') Z') !~ /\) [ZX]/ } glob "/proc/$pid/task/*" }) or fail("$pid dies");
}

# The spare, once there is exactly one.
sub spare {
    my ($brood) = @_;
    wait_stat($brood, spares => 1);
    my @spares = grep { (slurp("/proc/$_/mountinfo") // 'gone: /work ') !~ m{ /work } } $brood->pids('zygote');
    return @spares == 1 ? $spares[0] : diag("spares: @spares") && undef;
}

sub gid {
    return (slurp("/proc/$_[0]/status") // '') =~ /^Gid:\s+(\d+)/m ? $1 : -1;
}

# Whom a zygote keeps beside the run with that number: {run, mould, reserve => pid}, or of a spare {child => pid}.
sub kept_by {
    my ($brood, $zygote, $run_nspid) = @_;
    my $is = sub {
        my ($p) = @_;
        return 'child' if !$run_nspid;
        return $p->{nspid}[-1] == $run_nspid ? 'run' : gid($p->{pid}) == gid($zygote) ? 'reserve' : 'mould';
    };
    return {map { ($is->($_) => $_->{pid}) } grep { $_->{ppid} == $zygote && $_->{role} eq 'child' } $brood->processes};
}

# ---- states -------------------------------------------------------------------------------------
# Each hold() returns {conn: the request, stopped: [pids], release: code, pids of victims}.

sub hold_starting {
    my ($brood, $ns) = @_;
    my ($primordial) = map { stop($_) } $brood->pids('primordial');
    my $conn = $brood->post($ns => "echo x >> ran; echo $ns");
    wait_stat($brood, starting => 1);
    return {conn => $conn, stopped => [$primordial]};
}

sub hold_attaching {
    my ($brood, $ns) = @_;
    my $zygote = spare($brood);
    my $active = stats($brood)->{active};
    stop($brood->{pid});
    my $conn = $brood->post($ns => "echo x >> ran; echo $ns");
    wait_stat($brood, active => $active + 1);
    return {conn => $conn, stopped => [$brood->{pid}], zygote => $zygote, %{kept_by($brood, $zygote)}};
}

# A run with limits of its own is not sent behind the volume.
sub hold_assigning {
    my ($brood, $ns, $narrow) = @_;
    my $zygote = spare($brood);
    my $attached = stats($brood)->{priv_attach_volume_total};
    stop($zygote);
    my $conn = $brood->post($ns => "echo x >> ran; echo $ns", $narrow ? %$NARROW : ());
    wait_stat($brood, priv_attach_volume_total => $attached + 1);
    return {conn => $conn, stopped => [$zygote], zygote => $zygote, %{kept_by($brood, $zygote)}};
}

sub hold_ready {
    my ($brood, $ns) = @_;
    $brood->recycle($ns);
    my $zygote = $brood->zygote_of($ns);
    my @kept = grep { $_->{ppid} == $zygote } $brood->processes; # the standby, its mould, perhaps a reserve
    my ($standby) = sort { $b <=> $a } map { $_->{pid} } @kept;
    return {stopped => [], zygote => $zygote, standby => $standby, all => [map { $_->{pid} } @kept]};
}

sub hold_limiting {
    my ($brood, $ns) = @_;
    my $held = hold_ready($brood, $ns);
    stop($brood->{pid});
    $held->{conn} = $brood->post($ns => "echo x >> ran; echo $ns", %$NARROW);
    wait_stat($brood, queued => 1);
    $held->{stopped} = [$brood->{pid}];
    return $held;
}

# The run waits for a line in a pipe.
sub hold_busy {
    my ($brood, $ns) = @_;
    $brood->sh($ns => 'mkfifo go');
    my $zygote = $brood->zygote_of($ns);
    $brood->recycle($ns);
    my $conn = $brood->post($ns => "echo \$\$ > \$\$.run; read x < go; echo $ns");
    my $nspid;
    until_true(IN_TIME, sub { ($nspid) = map { m{/(\d+)\.run$} } grep { -s } glob "$brood->{fs_root}/$ns/*.run" });
    return {conn => $conn, stopped => [], zygote => $zygote, %{kept_by($brood, $zygote, $nspid)},
        release => sub { open my $go, '+<', "$brood->{fs_root}/$ns/go" or die $!; syswrite $go, "go\n"; return $go }};
}

sub hold_dying {
    my ($brood, $ns) = @_;
    my $zygote = $brood->zygote_of($ns);
    my $spare = spare($brood);
    wait_stat($brood, ending => 0); # the probe's
    stop($brood->{pid});
    kill KILL => $zygote;
    wait_stat($brood, ending => 1);
    my $conn = $brood->post($ns => "echo x >> ran; echo $ns");
    wait_stat($brood, queued => 1);
    return {conn => $conn, stopped => [$brood->{pid}], spare => $spare};
}

# Another copy of priv removes the cgroups; one that still has a process in it is tried for two seconds.
sub hold_removing {
    my ($brood, $ns) = @_;
    my $zygote = $brood->zygote_of($ns);
    my $conn = $brood->post($ns => "touch $ns-runs; sleep 60");
    $brood->wait_file("$ns-runs");
    my ($run) = map { $_->{pid} } grep { $_->{ppid} == $zygote && (slurp("/proc/$_->{pid}/cgroup") // '') =~ m{brood-[^/\n]+/(?:runs/)?s\d} } $brood->processes;
    my ($dir) = grep { m{/s\d+$} && (slurp("$_/cgroup.procs") // '') =~ /^$run$/m } $brood->cgroup_dirs;
    defined(my $squatter = fork) or die $!;
    if (!$squatter) { $SIG{TERM} = 'DEFAULT'; sleep 60; POSIX::_exit(0) }
    open my $join, '>', "$dir/cgroup.procs" or die "$dir: $!";
    syswrite $join, $squatter or diag("$dir: $!");
    kill KILL => $zygote;
    my $remover;
    until_true(IN_TIME, sub { ($remover) = grep { $_ != $brood->{pid} } $brood->pids('priv') });
    stop($remover) if $remover;
    my $waits = $brood->post($ns => "echo x >> ran; echo $ns");
    wait_stat($brood, queued => 1);
    is($brood->result($conn, IN_TIME)->{http}, 500, "$ns: the run before is lost");
    return {conn => $waits, stopped => [$remover], remover => $remover, squatter => $squatter, release => sub { kill KILL => $squatter; waitpid $squatter, 0 }};
}

# Stops the next child of priv that fits, as soon as it is there; its pid, or undef if it is over.
sub stop_next_child {
    my ($brood, $fits, $is_over) = @_;
    my $until = time + IN_TIME;
    my %known;
    while (time < $until && !($is_over && $is_over->())) {
        for my $pid (grep { !$known{$_} } split ' ', slurp("/proc/$brood->{pid}/task/$brood->{pid}/children") // '') {
            my $status = slurp("/proc/$pid/status") // next;
            if (!$fits->($status)) { $known{$pid} = 1 if $status =~ /^NSpid:\s+\d+\s+\d+$/m; next }
            kill STOP => $pid;
            return until_true(1, sub { state_of($pid) =~ /^[TZ]$|gone/ }) && state_of($pid) eq 'T' ? $pid : undef;
        }
    }
    return undef;
}

# For stop_next_child.
sub is_zygote { return $_[0] =~ /^NSpid:\s+\d+\s+1$/m }

# ---- and then ----------------------------------------------------------------------------------

sub victim {
    my ($brood, $held, $who) = @_;
    return $brood->{pid} if $who eq 'priv';
    my $pids = $held->{$who} // [$brood->pids($who)];
    return ref $pids ? @$pids : $pids;
}

sub go_on {
    my ($held) = @_;
    kill CONT => $_ for grep { state_of($_) eq 'T' } @{$held->{stopped}};
    return $held->{release} ? $held->{release}->() : undef;
}

sub is_answered {
    my ($brood, $ns, $held, $want, $what) = @_;
    my $begin = time;
    my $r = $held->{conn} ? $brood->result($held->{conn}, IN_TIME) : $brood->sh($ns => "echo $ns", timeout => IN_TIME);
    my $got = $r->{http} == 200 ? ($r->{signal} ? 'signal' : $r->{stdout} eq "$ns\n" ? 'ok' : "stdout $r->{stdout}") : $r->{error}{code} // $r->{reason} // "http $r->{http}";
    is($got, $want, sprintf '%s: the answer, %.2f s', $what, time - $begin) or diag($r->{error}{message} // '');
}

sub is_nothing_left {
    my ($brood, $what) = @_;
    my @left;
    ok(until_true(IN_TIME, sub { !(@left = $brood->processes) }), "$what: no process is left") or diag(join ' ', map { "$_->{role} $_->{pid} " . state_of($_->{pid}) } @left);
    is(join(' ', grep { !$before{$_} } $brood->mounts), '', "$what: no mount");
}

sub is_clean {
    my ($brood, $what) = @_;
    is_nothing_left($brood, $what);
    is(join(' ', $brood->cgroup_dirs, (grep { -e } $brood->{http}, $brood->{socket}), grep { /^\./ && $_ ne '.lock' } $brood->entries), '', "$what: no cgroup, socket, unfinished directory");
}

# The service ends by itself, with an error; the next start finds a clean house and the files.
sub is_over {
    my ($brood, $what, $held) = @_;
    my $begin = time;
    ok($brood->wait_exit(20), sprintf '%s: the service ends, %.2f s', $what, time - $begin);
    isnt($brood->{status}, 0, "$what: with an error");
    ok($held->{conn}->closed(IN_TIME) || $held->{conn}->readable, "$what: who waited is told") if $held->{conn};
    is_nothing_left($brood, $what);
    $brood->_spawn;
    ok($brood->wait_ready(20), "$what: the next start works") or diag($brood->log_tail);
    is($brood->sh(base => 'cat note.txt')->{stdout}, "kept\n", "$what: with the files");
    ok(until_true(IN_TIME, sub { !grep { /^\.(?:new|trash)-|^\.blank-(?!$brood->{pid}-)/ } $brood->entries }), "$what: and nothing unfinished");
}

1;
