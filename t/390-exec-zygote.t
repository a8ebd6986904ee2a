# SPDX-License-Identifier: Apache-2.0
# The static fallback behaves like the warm bash: the behavioural files once more with zygote = exec, each in a
# process of its own with its own time limit. One test per file; of a failing one the failed lines are shown.
use lib 't/lib';
use Brood;

use constant FILE_SECONDS => 200; # a little more than each file gives itself

require_layer('root');
alarm 0; # set again for each file
my @files = map { glob "t/$_-*.t" } 400, 410, 420, 430, 500, 600;
is(scalar @files, 6, 'six files');

{
    my $brood = Brood->start(zygote => 'exec');
    is($brood->sh(alice => 'echo hi')->{stdout}, "hi\n", 'zygote = exec runs commands');
    ok($brood->wait_log(qr/"primordial","zygote":"exec"/), 'by the static program, says the log');
    is(scalar(grep { $_->{exe} =~ /brood-zygote/ } grep { $_->{role} eq 'primordial' } $brood->processes), 1, 'which is what runs');
    $brood->stop;
}

for my $file (@files) {
    defined(my $pid = open my $out, '-|') or die "fork: $!";
    if (!$pid) {
        $ENV{BROOD_TEST_ZYGOTE} = 'exec';
        open STDERR, '>&', \*STDOUT;
        exec $^X, '-It/lib', $file or POSIX::_exit(99);
    }
    my @lines;
    my $in_time = eval {
        local $SIG{ALRM} = sub { die "too long\n" };
        alarm FILE_SECONDS;
        @lines = <$out>;
        alarm 0;
        1;
    };
    unless ($in_time) {
        alarm 0;
        kill KILL => $pid;
    }
    my $closed = close $out;
    my $passed = $in_time && $closed && @lines && $lines[-1] !~ /^Bail out/;
    ok($passed, "$file with zygote = exec") or diag($in_time ? '' : "took more than @{[FILE_SECONDS]} s\n", grep { /^\s*(?:not ok|#\s+Failed|#\s+at |#\s+got|#\s+expected|Bail out)/ } @lines);
}
done_testing;
