# SPDX-License-Identifier: Apache-2.0
# Keyrings belong to no kernel namespace: the attacker leaves keys for its neighbour and reads root's.
use lib 't/lib';
use Brood;
use Brood::Attack;

my $brood = Brood->start;
my $attack = <<'PERL';
call(add_key => 248, "user\0", "brood-test\0", "secret", 6, -4); # KEY_SPEC_USER_KEYRING
call(request_key => 249, "user\0", "brood-test\0", 0, -4);
call(session => 250, 1, "brood-session\0");                      # KEYCTL_JOIN_SESSION_KEYRING
call(get_session => 250, 0, -3, 1);
call(persistent => 250, 22, -1, -3);
my $text = "\0" x 256;
call(describe => 250, 6, -4, $text, 256);
PERL
my $got = attack($brood, mallory => $attack);
refused($got, $_, qr/^(?:EPERM|ENOSYS)$/) for qw(add_key request_key session get_session persistent describe);
for my $file (qw(/proc/keys /proc/key-users)) {
    my $text = $brood->sh(mallory => "cat $file")->{stdout};
    unlike($text, qr/keyring|_ses|_uid/, "$file tells nothing");
}
control(on_host($attack), qw(add_key session));

$brood->stop;
done_testing;
