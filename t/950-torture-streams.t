# SPDX-License-Identifier: Apache-2.0
# Torture of streams - the frontend's, with what else a run under way is asked for: its stdin, signals, waiting for its
# end - as t/950-torture.t. Besides: a stream has each event once, in order, and ends with the result or an error, or its
# connection breaks; who comes again with the number of the last one gets the others; a run that was answered 202 ends.
BEGIN { $ENV{B} = 'build/fault' }
use lib 't/lib';
use Brood;
use Brood::Events;
use Brood::Torture;

my $t;

# The events up to the end, or to one that satisfies `until`; {wrong}: what is wrong, {broken}: they were cut off.
sub read_events {
    my ($method, $path, %opt) = @_;
    my $until = delete $opt{until};
    my $s = Brood::Events->open($t->brood, $method, $path, timeout => 30, %opt) or return {broken => 1};
    return {wrong => "$path: no answer"} if !$s->{status} && $s->{conn}{why} eq 'timeout';
    return {broken => 1, status => $s->{status}} if !$s->{status} || $s->{status} >= 500;
    return {status => $s->{status}, wrong => "$path: status $s->{status}"} if $s->{status} != 200;
    my ($last, @all) = ($opt{last} // 0);
    while (my $e = $s->next(30)) {
        return {wrong => "event $e->{id} behind $last"} if $e->{event} !~ /^(?:gap|error)$/ && $e->{id} != $last + 1;
        $last = $e->{id} // $last;
        push @all, $e;
        last if $until && $until->($e);
    }
    my $done = @all && ($all[-1]{event} =~ /^(?:result|error)$/ || $until && $until->($all[-1]));
    return {wrong => "$path: neither an event nor the end, behind $last"} if !$done && !$s->{ended} && $s->{conn}{why} eq 'timeout';
    return {wrong => "$path: it ends behind $last without a result"} if !$done && $s->{ended};
    return {events => \@all, last => $last, broken => !$done};
}

# Output that is shown, and is the answer. 1, 0 or what is wrong.
sub shown {
    my $n = 30_000; # more than a pipe, an event and the kernel's buffers take at once
    my $r = read_events(POST => '/execute', body => {namespace_id => 'base', cmd => "echo problem >&2; seq $n", timeout => 20}, ndjson => 1);
    return $r->{wrong} if $r->{wrong};
    return 0 if $r->{broken};
    my $end = $r->{events}[-1];
    $t->{said} = "$end->{event} $end->{data}{code}", return 0 if $end->{event} eq 'error';
    return 0 if $end->{data}{stdout_truncated} || $end->{data}{stderr_truncated};
    my $want = join '', map { "$_\n" } 1 .. $n;
    return "reason $end->{data}{reason}" if $end->{data}{reason} ne 'exit';
    return 'not all of it is shown' if Brood::Events::text_of(stdout => @{$r->{events}}) ne $want || Brood::Events::text_of(stderr => @{$r->{events}}) ne "problem\n";
    return 'not all of it is answered' if $end->{data}{stdout} ne $want;
    return 1;
}

# A run that goes on without us: told once what it is given, watched in two pieces, signalled; its document at last.
sub detached {
    my ($cmd, $ready, $do, $stdout) = @_;
    my ($errors, %seen) = (0);
    my ($front) = $t->brood->pids('frontend');
    my $lost = sub { my ($now) = $t->brood->pids('frontend'); return ($now // 0) != ($front // 0) };
    my $r = $t->ask(POST => '/v1/runs', body => {namespace_id => 'base', cmd => $cmd, detach => \1, stdin_open => \1, stdin => "first\n", limits => {timeout_ms => 20000}}) // return 'no answer';
    return 0 if $t->is_error($r);
    return "status $r->{status} $r->{body}" if $r->{status} != 202;
    my $id = $r->{json}{id};
    my ($text, $last, $end) = ('', 0);
    my $watch = sub {
        my ($until) = @_;
        for (1 .. 20) {
            my $e = read_events(GET => "/v1/runs/$id/events", $last ? (last => $last) : (), $until ? (until => sub { $_[0]{event} eq 'stdout' && "$text$_[0]{data}{text}" =~ $until }) : ());
            return '' if $e->{wrong} && ($e->{status} // 0) == 404 && $lost->();
            return $e->{wrong} if $e->{wrong};
            for (@{$e->{events} // []}) {
                $errors++ if $_->{event} =~ /^(?:gap|error)$/;
                $text .= $_->{data}{text} if $_->{event} eq 'stdout';
                $end = $_ if $_->{event} =~ /^(?:result|error)$/;
            }
            $last = $e->{last} if $e->{last};
            return '' if $end || !$e->{broken};
            $errors++;
            return '' if $t->brood->exited;
        }
        return 'watching it breaks again and again';
    };
    my $wrong = $watch->($ready);
    if (!$wrong && !$end) {
        for my $body (@$do) { # what was refused is asked for again
            until_true(20, sub {
                my $path = "/v1/runs/$id/" . (exists $body->{signal} ? 'signal' : 'stdin');
                my $r = $t->ask(POST => $path, body => $body) // return $wrong = 'no answer to what it was told';
                return $r->{status} < 500 && $r->{status} > 0 || $lost->() unless $t->is_error($r);
                $errors++;
                return $lost->();
            }) or return 'what it is told is refused again and again';
        }
        $wrong ||= $watch->();
    }
    return $wrong if $wrong;
    my $doc;
    for (1 .. 40) {
        $doc = $t->ask(GET => "/v1/runs/$id?wait=20") // return 'no answer to waiting';
        last if !$t->is_error($doc) && ($doc->{status} == 404 || ($doc->{json}{status} // '') !~ /^(?:queued|running)$/);
        $errors++;
        return 0 if $t->brood->exited;
        select undef, undef, undef, 0.05;
    }
    return $lost->() || $errors ? 0 : "$id is not there" if $doc->{status} == 404;
    my $d = $doc->{json};
    return "the run does not end: $doc->{status} $doc->{body}" if ($d->{status} // '') !~ /^(?:succeeded|failed|timeout|oom|killed)$/;
    return 0 if $d->{stdout_truncated} || $d->{reason} =~ /^(?:internal|cancelled)$/ || $d->{error};
    return "the run: $d->{status}, $d->{reason}, $d->{stdout}" if $d->{stdout} ne $stdout || $d->{reason} ne 'exit' || $d->{exit_code} != 4;
    return $errors ? 0 : $text eq $stdout ? 1 : "what was shown: $text";
}

sub run {
    return Brood::Torture::all_of(
        detached('echo ready; while read -r l; do echo "got $l"; done; echo over; exit 4', qr/ready\n/, [{stdin => "second\n"}, {stdin => "x" x 100_000 . "\n"}, {eof => \1}],
            "ready\ngot first\ngot second\ngot " . 'x' x 100_000 . "\nover\n"),
        detached('trap "echo caught; exit 4" INT; echo ready; while :; do sleep 0.01; done', qr/ready\n/, [{signal => 'INT'}], "ready\ncaught\n"));
}

$t = Brood::Torture->new(seconds => 1, 'v1-runs-timeout-max' => '20s', state => sub { my $dir = "$t->{brood}{fs_root}.state"; return {temporary => scalar(() = glob "$dir/*/.new-*")} });
$t->torture('output that is shown', 'frontend', \&shown);
$t->torture('detached runs', 'frontend', \&run);
$t->finish;
