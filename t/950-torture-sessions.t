# SPDX-License-Identifier: Apache-2.0
# Torture of sessions - frontend, pid 1 of the companion, the bash that stays - as t/950-torture.t. Besides: a
# call that is answered has its output whole and its own; what a session remembers is there as long as nobody was told
# that it began anew; a call that is too long is ended in time.
BEGIN { $ENV{B} = 'build/fault' }
use lib 't/lib';
use Brood;
use Brood::Torture;

my $t;
my $n = 0;

# The calls of one session: [command, its output, more of the request, what its answer says besides].
my @calls = (
    ['n=41; cd /tmp', ''],
    ['echo $((n + 1)) $PWD; echo err >&2', "42 /tmp\n"],
    ['read x; echo "$x $NAME $1"; (exit 3)', "in value arg\n", {stdin => "in\n", env => {NAME => 'value'}, args => ['arg']}, {exit_code => 3}],
    ['exec >/dev/null; echo lost; sleep 1000 & disown', ''],
    ['echo $n; kill %% 2>/dev/null || pkill sleep', "41\n"],
    ['sleep 1000', '', {timeout => 0.1}, {exit_code => 130, session_interrupted => 1}],
    ['printf %0100000d $n', '0' x 99998 . '41'],
    ['echo bye; exit 5', "bye\n", {}, {exit_code => 5, session_ended => 1}],
);

sub call_all {
    my ($name) = @_;
    my ($errors, $new) = (0, 1);
    for my $call (@calls) {
        my ($cmd, $stdout, $more, $says) = @$call;
        my $res = $t->ask(POST => '/execute', body => {namespace_id => 'base', session => $name, cmd => $cmd, timeout => 10, %{$more // {}}}) // return "$cmd: no answer";
        if ($t->is_error($res) || $res->{status} == 429) { $errors++; last if $t->brood->exited; next }
        my $r = $res->{json};
        return "$cmd: $res->{status} $res->{body}" if $res->{status} != 200;
        return "$cmd: it began anew, and nothing had failed" if $r->{session_started} && !$new && !$t->has_fired;
        $errors++ if $r->{session_started} && !$new || $r->{reason} ne 'exit' && $r->{reason} ne 'timeout' || $r->{stdout_truncated} || $r->{session_ended} && !$says->{session_ended};
        $new = $r->{session_ended};
        next if $errors; # what it remembers may be gone, and that was said
        return "$cmd: stdout " . substr($r->{stdout}, 0, 60) . ", reason $r->{reason}, exit_code " . ($r->{exit_code} // 'none') . ", stderr $r->{stderr}" if $r->{stdout} ne $stdout;
        for (keys %{$says // {}}) { return "$cmd: $_ is " . ($r->{$_} // 'none') if ($r->{$_} // '') ne $says->{$_} }
    }
    return $errors ? 0 : 1;
}

sub calls {
    my $r = call_all('s' . ++$n);
    until_true(20, sub {
        return 1 if $t->brood->exited;
        my $r = $t->ask(GET => '/v1/namespaces/base/sessions') // return 0;
        return 0 if $r->{status} != 200;
        $t->ask(DELETE => "/v1/namespaces/base/sessions/$_->{name}") for @{$r->{json}{sessions}};
        return !@{$r->{json}{sessions}};
    }) or return 'it is not closed';
    return $r;
}

$t = Brood::Torture->new('sessions-per-namespace' => 2, 'runs-grace-ms' => 3000, seconds => 1);
$t->torture('calls', 'frontend', \&calls, only => qr/output|packet|fd\.c/);
$t->torture('calls', 'zygote', \&calls, only => qr/session/); # the rest: t/950-torture-companions.t
$t->torture('calls', 'child', \&calls, only => qr/session/);
$t->finish;
