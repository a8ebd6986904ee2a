# SPDX-License-Identifier: Apache-2.0
# Torture of the frontend where jobs and Idempotency-Key go through it, as t/950-torture.t. Besides: a job that was
# accepted ends, whatever failed, and what is said to have completed has all its output; a request with an
# Idempotency-Key is done once at most, and each repetition hears the same.
BEGIN { $ENV{B} = 'build/fault' }
use lib 't/lib';
use Brood;
use Brood::Torture;

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

$t = Brood::Torture->new('languages-dir' => '', state => \&temporary);
$t->torture('job', 'frontend', sub { job("out\nerr\nagain\n", code => 'echo out; echo err >&2; echo again') });
$t->finish;
