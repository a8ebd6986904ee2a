# SPDX-License-Identifier: Apache-2.0
# The attacker reads the kernel's log, or writes into it and into ours: lines that look like somebody else's.
use lib 't/lib';
use Brood;
use Brood::Attack;
use Mojo::JSON qw(decode_json);

my $brood = Brood->start;
my $attack = 'my $text = "\0" x 4096; call(read_all => 103, 3, $text, 4096); call(size => 103, 10, 0, 0);';
my $got = attack($brood, mallory => $attack . 'call(clear => 103, 5, 0, 0); call(console_off => 103, 6, 0, 0);' . <<'PERL');
try("open $_" => sub { sysopen my $f, $_, O_RDONLY | O_NONBLOCK }) for '/dev/kmsg', '/proc/kmsg', '/var/log/syslog', '/var/log/kern.log', '/dev/log', '/run/systemd/journal/socket';
socket my $s, PF_UNIX, SOCK_DGRAM, 0;
try("log to $_" => sub { connect $s, pack_sockaddr_un($_) }) for '/dev/log', '/run/systemd/journal/dev-log';
PERL
refused($got, $_, qr/^EPERM$/) for qw(read_all size clear console_off);
refused($got, "open $_") for '/dev/kmsg', '/proc/kmsg', '/var/log/syslog', '/var/log/kern.log', '/dev/log', '/run/systemd/journal/socket';
refused($got, "log to $_") for '/dev/log', '/run/systemd/journal/dev-log';
isnt($brood->sh(mallory => 'dmesg')->{exit_code}, 0, 'dmesg fails');
control(on_host($attack), 'read_all', 'size');

# What a run prints must never reach our log; what a request says must not break a line of it.
my $mark = 'forged-line-of-mallory';
$brood->sh(mallory => qq(echo '{"event":"$mark"}'; echo '{"event":"$mark"}' >&2; echo '{"event":"$mark"}' > /dev/stderr; logger $mark; exit 3));
$brood->sh(qq(mallory) => "true # \n{\"event\":\"$mark\"}\n", env => {X => "\n{\"event\":\"$mark\"}"});
$brood->execute({namespace_id => 'mallory', cmd => 'true'}, headers => {'X-Request-Id' => "a\",\"event\":\"$mark"});
$brood->request(GET => "/$mark%0a{\"event\":\"$mark\"}");
$brood->request(GET => '/"}%0a');
$brood->sh('after' => 'true');
ok($brood->wait_log(qr/"ns":"after"/), 'the log goes on');
my @lines = grep { length } split /\n/, slurp($brood->{log});
my @broken = grep { !defined eval { decode_json($_) } } @lines;
is("@broken", '', 'every line of it is JSON');
is(scalar(grep { ($_->{event} // '') =~ /\Q$mark/ } $brood->log_lines), 0, 'and none is forged');
is(scalar(grep { /[\x00-\x1f\x7f]/ } @lines), 0, 'no control character is in it');

$brood->stop;
done_testing;
