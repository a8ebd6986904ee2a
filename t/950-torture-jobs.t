# SPDX-License-Identifier: Apache-2.0
# Torture of the frontend where jobs and Idempotency-Key go through it, as t/950-torture.t. Besides: a job that was
# accepted ends, whatever failed, and what is said to have completed has all its output; a request with an
# Idempotency-Key is done once at most, and each repetition hears the same.
BEGIN { $ENV{B} = 'build/fault' }
use lib 't/lib';
use Brood;
use Brood::Torture;
use Errno qw(EAGAIN);

my $t;
my $n = 0;

# What a call that failed left in the state directory.
sub temporary { my $dir = "$t->{brood}{fs_root}.state"; return {temporary => scalar(() = glob "$dir/*/.new-*")} }

# Asks until there is an answer that is none of an error; whether there was one is added up.
sub insist {
    my ($errors, $method, $path, %opt) = @_;
    for (1 .. 20) {
        my $res = $t->ask($method, $path, %opt) // return "$method $path: no answer in time";
        return $res unless $t->is_error($res);
        $$errors++;
        last if $t->brood->exited;
        select undef, undef, undef, 0.05;
    }
    return "$method $path: $t->{said}, again and again";
}

# 202, then its end, then its output.
sub job {
    my ($wanted, %body) = @_;
    my ($errors, $s) = (0);
    my $r = $t->ask(POST => '/submit', body => {language => 'bash', %body}) // return 'submit: no answer';
    return 0 if $t->is_error($r);
    my $id = ($r->{json} // {})->{executionId} or return "submit: $r->{status} $r->{body}";
    for (1 .. 3) {
        $s = insist(\$errors, GET => "/status?id=$id&wait=15");
        return $s unless ref $s;
        $s = $s->{json};
        last if ($s->{status} // '') !~ /^(?:queued|running)$/;
    }
    return "$id: it does not end, but is $s->{status}" if $s->{status} =~ /^(?:queued|running)$/;
    $r = insist(\$errors, GET => "/result?id=$id");
    return $r unless ref $r;
    $r = insist(\$errors, GET => $r->{json}{url} =~ s{^https?://[^/]+}{}r);
    return $r unless ref $r;
    $t->{said} = $s->{error} // $t->{said};
    return 0 if $s->{outputTruncated} || $s->{status} eq 'failed' && $s->{reason} eq 'internal';
    return $errors ? 0 : 1 if $s->{status} eq 'completed' && $r->{body} eq $wanted;
    return "job $s->{status}, reason " . ($s->{reason} // 'none') . ', ' . ($s->{error} // 'no error') . ", output $r->{body}";
}

# Two of one namespace: the second stands behind the first at the engine, and is let go. One in a queue is cancelled, too.
sub jobs_of_a_namespace {
    my ($errors, $gone, @ids, @end) = (0);
    my $order = 'order-' . ++$n;
    for my $code ("sleep 0.05; echo first >>$order", "echo second >>$order; cat $order", 'sleep 60') {
        my $r = $t->ask(POST => '/submit', body => {language => 'bash', code => $code, namespace_id => 'base'}) // return 'submit: no answer';
        push @ids, ($r->{json} // {})->{executionId} if $r->{status} == 202;
        $gone = $ids[-1] if $r->{status} == 202 && $code eq 'sleep 60';
        next if $r->{status} == 202;
        return "submit: $r->{status} $r->{body}" unless $t->is_error($r);
        $errors++;
    }
    my $r = $gone && insist(\$errors, DELETE => "/v1/jobs/$gone");
    return $r if $r && !ref $r;
    for my $id (@ids) {
        my $s;
        for (1 .. 3) {
            $s = insist(\$errors, GET => "/status?id=$id&wait=15");
            return $s unless ref $s;
            $s = $s->{json};
            last if ($s->{status} // '') !~ /^(?:queued|running)$/;
        }
        return "$id: it does not end, but is $s->{status}" if $s->{status} =~ /^(?:queued|running)$/;
        push @end, $s->{status} . ($s->{reason} eq 'exit' ? '' : " $s->{reason}");
        $errors++ if $s->{outputTruncated} || $s->{attempts} > 1;
        return "cancelled: $end[-1]" if $gone && $id eq $gone && $end[-1] ne 'failed cancelled';
    }
    $t->{said} = join ', ', @end;
    return 0 if $errors || @ids < 3;
    $r = insist(\$errors, GET => "/result?id=$ids[1]");
    return $r unless ref $r;
    # One that could not be begun is tried again, and does not keep up those behind it.
    return $t->has_fired ? 0 : "in this order: $r->{json}{stdoutPreview}" if $r->{json}{stdoutPreview} ne "first\nsecond\n";
    return $errors ? 0 : $t->{said} eq 'completed, completed, failed cancelled' ? 1 : $t->{said};
}

# With an Idempotency-Key: whatever becomes of the first request, none of it happens twice, and the repetitions agree.
sub once {
    my ($path, %body) = @_;
    my $name = 'once-' . ++$n;
    my @same = (POST => $path, headers => {'Idempotency-Key' => $name}, body => {namespace_id => 'base', cmd => "echo $name >>once; echo done $name", %body});
    my $first = $t->ask(@same) // return 'no answer';
    my $r = $first;
    my $errors = $t->is_error($r);
    until_true(20, sub {
        $r = $t->ask(@same) // return 1;
        $errors++, return 0 if $t->is_error($r);
        return $r->{status} != 409 || ($r->{json}{code} // $r->{json}{error}{code}) ne 'in_progress';
    }) or return "$name is under way for ever";
    return 'no answer again' unless $r;
    my $again = $t->ask(@same) // return 'no answer at last';
    return "other answers: $r->{status} $r->{body}, then $again->{status} $again->{body}"
      if !$t->is_error($again) && ($r->{status} != $again->{status} || $r->{body} ne $again->{body});
    return "other answers: $first->{body}, then $r->{body}" if $first->{status} == 200 && $r->{status} == 200 && $first->{body} ne $r->{body};
    my $ran = ''; # the call that is to fail may still come: more than one look
    until_true(10, sub { ($ran = $t->brood->sh(base => "grep -cx $name once")->{stdout}) ne '' });
    return "it ran $ran times" if $ran !~ /^[01]$/ || $ran == 0 && grep { $_->{status} =~ /^20/ } $first, $r;
    my $code = $r->{status} == 409 ? $r->{json}{code} // $r->{json}{error}{code} : '';
    return "$r->{status} $r->{body}" unless $r->{status} =~ /^20/ || $code =~ /^(?:attempt_lost|answer_not_kept)$/;
    return $errors || $r->{status} == 409 || $t->is_error($again) ? 0 : 1;
}

# Of a pipe that has something "nothing is there": then the other one is read first.
$t = Brood::Torture->new('languages-dir' => '', state => \&temporary, lies => [[qr/jobs_output/, EAGAIN]], seconds => 1);
$t->torture('job', 'frontend', sub { job("out\nerr\nagain\n", code => 'echo out; echo err >&2; echo again') }, only => qr{^(?!lib/fd)}); # the memfd with the code: as the rest of its Execute
$t->torture('jobs of a namespace', 'frontend', \&jobs_of_a_namespace, only => qr/packet|store/);
$t->torture('request done once', 'frontend', sub { once('/execute') });
$t->torture('stored run done once', 'frontend', sub { once('/v1/runs') });
$t->finish;
