# SPDX-License-Identifier: Apache-2.0
# The output of a job has stdout and stderr in the order written, byte for byte: ten thousand writes that alternate, from
# one process and from many, long ones, and through /proc/self/fd.
use lib 't/lib';
use Brood;
use Brood::Jobs;
use Digest::SHA qw(sha256_hex);

my $brood = Brood->start('languages-dir' => '');

sub written { my ($code, %more) = @_; my $s = ended($brood, submit($brood, $code, timeout => 60, %more)->{executionId}); return (output($brood, $s->{executionId}), $s) }
sub same {
    my ($got, $want, $what) = @_;
    my $at = 0;
    $at++ while $at < length $want && substr($got // '', $at, 1) eq substr($want, $at, 1);
    ok(($got // '') eq $want, $what) or diag(sprintf 'differs at %d of %d: got %s, want %s', $at, length $want, substr($got // '', $at, 40), substr($want, $at, 40));
}

my $want = join '', map { "o$_\ne$_\n" } 1 .. 10_000;
same((written('for ((i = 1; i <= 10000; i++)); do echo o$i; echo e$i >&2; done'))[0], $want, '10,000 and 10,000 writes of bash');
SKIP: {
    skip 'no python3', 2 unless -x '/usr/bin/python3';
    same((written("import os\nfor i in range(1, 10001):\n  os.write(1, b'o%d\\n' % i)\n  os.write(2, b'e%d\\n' % i)\n", language => 'python'))[0], $want, 'of python, as fast as it can');
    my $long = join '', map { ("a" x 10_000) . ("b" x 5_000) } 1 .. 50;
    same((written("import os\nfor i in range(50):\n  os.write(1, b'a' * 10000)\n  os.write(2, b'b' * 5000)\n", language => 'python'))[0], $long, 'writes longer than a packet');
}
same((written('for ((i = 1; i <= 300; i++)); do /bin/echo o$i; /bin/echo e$i >&2; done'))[0], join('', map { "o$_\ne$_\n" } 1 .. 300), 'of a process each');
my ($out) = written('for ((i = 1; i <= 2000; i++)); do echo o$i; done & for ((i = 1; i <= 2000; i++)); do echo e$i >&2; done; wait');
is_deeply([grep { /^o/ } split /\n/, $out // ''], [map { "o$_" } 1 .. 2000], 'two at once: each is in order');
is_deeply([grep { /^e/ } split /\n/, $out // ''], [map { "e$_" } 1 .. 2000], 'and nothing is lost or mixed');
my $s;
($out, $s) = written('exec 2>&1; for ((i = 1; i <= 1000; i++)); do echo o$i; echo e$i >&2; done');
same($out, join('', map { "o$_\ne$_\n" } 1 .. 1000), 'one stream for both');
($out) = written('echo a; echo b >/dev/stderr; echo c; exec >&-; echo d >&2');
# What was opened anew has no packets: d may be joined to b, where that has not been read yet.
ok($out eq "a\nb\nc\nd\n" || $out eq "a\nb\nd\nc\n", 'opened anew, and one of them closed') or diag($out);
($out) = written('(sleep 0.3; echo late) & echo early; exec >&- 2>&-; wait');
same($out, "early\nlate\n", 'of a child that outlasts its shell\'s own ends');
($out, $s) = written('head -c 900000 /dev/zero | tr "\0" x; head -c 900000 /dev/zero | tr "\0" y >&2');
same($out, 'x' x 900_000 . 'y' x 900_000, 'much');
$brood->stop;
done_testing;
