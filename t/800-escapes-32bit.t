# SPDX-License-Identifier: Apache-2.0
# The attacker enters the kernel by int 0x80: another table of calls, which a filter by number would misread.
use lib 't/lib';
use Brood;
use Brood::Attack;
use MIME::Base64 qw(encode_base64);

require_layer('root', 'gcc');
my $brood = Brood->start;
my $source = <<'C';
#include <stdio.h>
static long old(long nr, long a, long b, long c)
{
    long r;
    __asm__ volatile("int $0x80" : "=a"(r) : "a"(nr), "b"(a), "c"(b), "d"(c) : "memory", "r8", "r9", "r10", "r11");
    return r;
}
int main(void)
{
    printf("getpid %ld\nunshare %ld\nkeyctl %ld\nptrace %ld\n", old(20, 0, 0, 0), old(310, 0x10000000, 0, 0), old(288, 0, -3, 1), old(26, 0, 0, 0));
    return 0;
}
C
my $dir = $brood->{dir};
spew("$dir/old.c", $source);
is(system("gcc -o $dir/old $dir/old.c"), 0, 'a program that uses int 0x80');
my $outside = `$dir/old`;
my $program = encode_base64(slurp("$dir/old"));
my $r = $brood->sh(mallory => 'base64 -d > old; chmod +x old; ./old', stdin => $program);
if ($outside =~ /^getpid [1-9]/) {
    like($outside, qr/^getpid [1-9]/, 'control: outside it works');
} else {
    pass('control: this kernel has no 32-bit entry');
}
# ENOSYS is -38; a kernel without the entry kills the program with SIGSEGV.
ok($r->{stdout} eq "getpid -38\nunshare -38\nkeyctl -38\nptrace -38\n" || ($r->{signal} // '') eq 'SEGV', 'inside there is no such call')
  or diag($r->{stdout}, $r->{stderr});
is($brood->sh(mallory => 'echo hi')->{stdout}, "hi\n", 'the namespace works');

$brood->stop;
done_testing;
