# SPDX-License-Identifier: Apache-2.0
# A key with a policy of its own: what runs without a namespace has it, a namespace only where it may ask for it, and
# files have that of their namespace.
use lib 't/lib';
use Brood;
use Digest::SHA qw(sha256_hex);

sub key {
    my ($label, %more) = @_;
    my $token = "brood_token-of-$label-" . sha256_hex(rand() . $$);
    $more{scopes} //= '[execute, runs, files, namespaces]';
    return ($token, "  - label: $label\n    sha256: " . sha256_hex($token) . "\n" . join '', map { "    $_: $more{$_}\n" } sort keys %more);
}

my $dir = Brood::_temp_dir();
my ($tight, $entry) = key('tight', policy => 'tight');
my ($free, $free_entry) = key('free');
my ($lost, $lost_entry) = key('lost', policy => 'gone');
spew("$dir/keys.yaml", "keys:\n$entry$free_entry$lost_entry");
spew("$dir/policy.yaml", "policies:\n  tight: {cpu_max_ms: 7000}\nnamespaces: [{match: 't-*', policy: default, may_ask: [tight]}]\n");
my $brood = Brood->start(dir => $dir, 'key-file' => "$dir/keys.yaml", 'policy-file' => "$dir/policy.yaml", 'languages-dir' => '');
my $ask = sub {
    my ($token, $method, $path, $body) = @_;
    my $type = ref $body ? 'application/json' : $path =~ /archive/ ? 'application/x-tar' : 'application/octet-stream';
    return $brood->request($method, $path, (defined $body ? (body => $body) : ()), headers => {Authorization => "Bearer $token", 'Content-Type' => $type});
};
my $cpu = sub {
    my $res = $ask->(@_);
    return "$res->{status} " . ($res->{json}{stdout} // $res->{body});
};
my %code = (language => 'bash', code => 'ulimit -t');
is($cpu->($tight, POST => '/execute', {%code}), "200 7\n", '/execute without a namespace has it');
is($cpu->($tight, POST => '/v1/runs', {cmd => 'ulimit -t', limits => {cpu_ms => 7000}}), "200 7\n", '/v1/runs, too');
is($cpu->($tight, POST => '/v1/runs', {%code, limits => {cpu_ms => 7000}}), "200 7\n", 'and its code');
is($cpu->($tight, POST => '/execute', {cmd => 'ulimit -t', namespace_id => 't-1'}), "200 7\n", 'and a namespace that may ask for it');
my $job = $ask->($tight, POST => '/submit', {userId => 'u', %code})->{json}{executionId} // 'none';
my $state;
ok(until_true(15, sub { ($state = $ask->($tight, GET => "/status?id=$job")->{json})->{status} !~ /queued|running/ }), 'a job ends');
is("$state->{status} $state->{stdoutPreview}", "completed 7\n", 'and had it');
is($cpu->($free, POST => '/execute', {%code}), "200 unlimited\n", 'another key has its own');
like($cpu->($free, POST => '/execute', {%code, policy => 'tight'}), qr/^400 .*may not ask/, 'and may not ask for it');
like($cpu->($tight, POST => '/execute', {%code, policy => 'gone'}), qr/^400 .*may not ask/, 'who names one is told so');
like($cpu->($tight, POST => '/execute', {cmd => 'true', namespace_id => 'other'}), qr/^400 .*the one of this key/, 'a namespace that may not ask for it: told whose it is');
like($cpu->($lost, POST => '/execute', {%code}), qr/^400 .*the one of this key/, 'so is one that is not there');
is($ask->($tight, PUT => '/v1/namespaces/other/files/x', 'x')->{status}, 200, 'files are put under the policy of their namespace');
is($ask->($tight, GET => '/v1/namespaces/other/files/x')->{body}, 'x', 'and fetched');
my $tar = $ask->($tight, GET => '/v1/namespaces/other/archive');
is($tar->{status}, 200, 'so are archives');
is($ask->($tight, POST => '/v1/namespaces/other/archive', $tar->{body})->{status}, 200, 'and unpacked');
$brood->stop;
done_testing;
