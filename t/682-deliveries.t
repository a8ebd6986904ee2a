#!/usr/bin/env perl
# SPDX-License-Identifier: Apache-2.0
# t/682-deliveries.t - what waits in the store is delivered: signed, again after failures and at the right time, with its log to
# be read, by another courier or another frontend when one was killed, and no host waits for another one. (How a job puts it
# there: t/684.)
use lib 't/lib';
use Brood;
use Brood::Receivers;
use DBI;
use Digest::SHA qw(hmac_sha256_hex);
use Mojo::JSON qw(decode_json);
use POSIX ();
use Time::HiRes qw(time);

Brood::require_layer(qw(root ip nsenter python3));
eval { require DBD::SQLite } or plan skip_all => 'no libdbd-sqlite3-perl';
my $world = Brood::Receivers->new({'a.test' => ['9.1.1.1'], 'b.test' => ['9.1.1.2'], 'dead.test' => ['9.1.2.1'], 'private.test' => ['10.9.9.9']}, no_canary => 1);
my %flags = (wrap => [$world->inside], 'webhooks-allow' => 'http://a.test,http://b.test,http://dead.test,http://private.test',
    'webhooks-delay-first-ms' => 300, 'webhooks-delay-max-s' => 1, 'webhooks-attempts' => 4, 'webhooks-timeout-ms' => 2000,
    'webhooks-connect-timeout-ms' => 1000);
my $brood = Brood->start(%flags);
my $secret = Brood::slurp("$brood->{fs_root}.state/webhook.key");
like($secret, qr/\A[0-9a-f]{64}\n\z/, 'a secret was made');
is((stat "$brood->{fs_root}.state/webhook.key")[2] & 07777, 0600, 'which nobody else can read');
chomp $secret;
$brood->stop;

# Puts ended jobs and their deliveries while the service is stopped: (job, url, how many, whose).
sub put {
    my @rows = @_;
    my $db = DBI->connect("dbi:SQLite:dbname=$brood->{fs_root}.state/store.db", '', '', {RaiseError => 1, AutoCommit => 0});
    for (@rows) {
        my ($job, $url, $count, $key) = @$_;
        my ($host) = $url =~ m{://([^/]+)};
        for my $n (1 .. $count // 1) {
            my $id = 'dlv_' . join '', map { ('a' .. 'z', 2 .. 7)[rand 32] } 1 .. 26;
            my $named = $n == 1 ? $job : "$job-$n";
            my $now = int(1000 * time);
            $db->do('INSERT INTO jobs (id, key, user, language, ns_id, policy, priority, state, attempts, created_ms, updated_ms, started_ms, completed_ms,
                timeout_ms_ceiling, memory_bytes_ceiling, cpu_ms_ceiling, bytes, doc, body) VALUES (?, ?, CAST(? AS BLOB), ?, ?, ?, 5, 2, 1, ?, ?, ?, ?, 0, 0, 0, 0, CAST(? AS BLOB), x\'\')',
                undef, $named, $key // '', 'u1', 'bash', '', '', ($now) x 4, '"error":null');
            $db->do('INSERT INTO deliveries (id, job_id, key, url, host, created_ms, next_ms) VALUES (?, ?, ?, ?, ?, ?, ?)',
                undef, $id, $named, $key // '', $url, $host, ($now) x 2);
        }
    }
    $db->commit;
    $db->disconnect;
    # What sqlite3 made as root is to be the frontend's again.
    my @owner = (stat "$brood->{fs_root}.state")[4, 5];
    chown @owner, glob "$brood->{fs_root}.state/store.db*";
}

sub log_of {
    my ($job) = @_;
    my $r = $brood->request(GET => "/v1/jobs/$job/deliveries");
    return $r->{status} == 200 ? $r->{json}{deliveries} : [];
}

sub wait_over {
    my ($job, $timeout) = @_;
    until_true($timeout // 15, sub { my $l = log_of($job); @$l && !grep { $_->{status} eq 'pending' } @$l });
    return log_of($job)->[0];
}

subtest 'delivered and signed' => sub {
    my $job = 'job_' . 'a' x 26;
    put([$job, 'http://a.test/ok/1']);
    $brood->restart;
    my $d = wait_over($job);
    is($d->{status}, 'delivered', 'it is delivered');
    my ($r, @more) = $world->requests('/ok/1');
    is(scalar @more, 0, 'once');
    my $body = decode_json($r->{body});
    is_deeply([@$body{qw(executionId userId status outputPath error)}], [$job, 'u1', 'completed', "outputs/$job.txt", undef], 'with the job');
    is_deeply($body, $brood->request(GET => "/status?id=$job")->{json}, 'as /status has it');
    my $h = $r->{headers};
    is($h->{'brood-delivery'}, $d->{id}, 'and its id');
    cmp_ok(abs($h->{'brood-timestamp'} - time), '<', 10, 'of now');
    is($h->{'brood-signature'}, 'v1=' . hmac_sha256_hex("$h->{'brood-timestamp'}.$r->{body}", $secret), 'signed as documented');
    Brood::spew("$brood->{dir}/body", "$h->{'brood-timestamp'}.$r->{body}");
    my $openssl = qx(openssl dgst -sha256 -hmac "\$(cat $brood->{fs_root}.state/webhook.key)" < $brood->{dir}/body 2>&1);
    like($openssl, qr/\b\Q@{[substr $h->{'brood-signature'}, 3]}\E\b/, 'which openssl finds, too');
    my ($a, @rest) = @{$d->{attempts}};
    is_deeply([@$a{qw(number status error)}, scalar @rest], [1, 204, undef, 0], 'the log has the attempt');
    like($a->{started_at}, qr/^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z$/, 'and its time');
    is($d->{next_attempt_at}, undef, 'there will be no other');
    is($brood->request(GET => '/v1/jobs/nobody/deliveries')->{status}, 404, 'of no job there is none');
    is($brood->request(GET => "/v1/jobs/$_/deliveries")->{status}, 404, "nor of $_") for '%00', 'x' x 65, 'a.b';
    $brood->stop;
};

subtest 'each key has a secret of its own' => sub {
    put(map { ["job-of-$_", "http://a.test/ok/of-$_", 1, $_] } qw(alice bob));
    $brood->restart;
    my %is;
    for my $key (qw(alice bob)) {
        my @r;
        ok(until_true(15, sub { @r = $world->requests("/ok/of-$key") }), "what $key is told") or return;
        $is{$key} = substr $r[0]{headers}{'brood-signature'}, 3;
        my ($text, $master) = ("$r[0]{headers}{'brood-timestamp'}.$r[0]{body}", "$brood->{fs_root}.state/webhook.key");
        my $own = qx(printf 'key:%s' $key | openssl dgst -sha256 -hmac "\$(cat $master)" | cut -d' ' -f2);
        like($own, qr/\A[0-9a-f]{64}\n\z/, 'its secret, as documented');
        chomp $own;
        is($is{$key}, hmac_sha256_hex($text, $own), 'is what it is signed with');
        isnt($is{$key}, hmac_sha256_hex($text, $secret), '... not the one for all');
        my $other = hmac_sha256_hex('key:' . ($key eq 'bob' ? 'alice' : 'bob'), $secret);
        isnt($is{$key}, hmac_sha256_hex($text, $other), '... nor the other one');
    }
    $brood->stop;
};

subtest 'failures' => sub {
    put(['twice', 'http://a.test/fail/2/x'], ['never', 'http://a.test/status/500'], ['gone', 'http://a.test/status/410'],
        ['hang', 'http://a.test/hang'], ['redirect', 'http://a.test/redirect?http://b.test/away'], ['private', 'http://private.test/x'],
        ['unlisted', 'http://evil.test/x']);
    $brood->restart;
    my $d = wait_over('twice');
    is($d->{status}, 'delivered', 'two failures, then it is delivered');
    is_deeply([map { $_->{status} } @{$d->{attempts}}], [500, 500, 200], 'as the log says');
    my @r = $world->requests('/fail/2/x');
    is_deeply([map { $_->{headers}{'brood-delivery'} } @r], [($d->{id}) x 3], 'one id');
    cmp_ok($r[1]{time} - $r[0]{time}, '<', 0.3 + 1.5, 'the second within the first delay');
    cmp_ok($r[2]{time} - $r[1]{time}, '<', 0.6 + 1.5, 'the third within twice as much');
    is($_->{headers}{'brood-signature'}, 'v1=' . hmac_sha256_hex("$_->{headers}{'brood-timestamp'}.$_->{body}", $secret), 'each signed anew') for @r;
    $d = wait_over('never');
    is_deeply([$d->{status}, map { $_->{status} } @{$d->{attempts}}], ['given_up', (500) x 4], 'four attempts, then it is given up');
    $d = wait_over('gone');
    is_deeply([$d->{status}, scalar @{$d->{attempts}}], ['given_up', 1], '410 ends it at once');
    $d = wait_over('hang', 20);
    is_deeply([$d->{status}, map { $_->{status} } @{$d->{attempts}}], ['given_up', (undef) x 4], 'one that hangs');
    like($d->{attempts}[0]{error}, qr/Timeout/, 'says so');
    $d = wait_over('redirect');
    is_deeply([$d->{status}, $d->{attempts}[0]{status}], ['given_up', 307], 'a redirect is a failure');
    is(scalar(my @away = $world->requests('/away')), 0, 'and not followed');
    like(wait_over('private')->{attempts}[0]{error}, qr/private address/, 'a private address');
    like(wait_over('unlisted')->{attempts}[0]{error}, qr/not on the list/, 'a host that is no longer listed');
    $brood->stop;
};

subtest 'backoff' => sub {
    put(map { ["b$_", "http://a.test/fail/3/$_"] } 1 .. 30);
    $brood->restart;
    is(wait_over("b$_")->{status}, 'delivered', "b$_") for 1 .. 30;
    my @gaps;
    for my $n (1 .. 30) {
        my @r = $world->requests("/fail/3/$n");
        @r = grep { $_->{path} eq "/fail/3/$n" } @r;
        push @{$gaps[$_]}, $r[$_]{time} - $r[$_ - 1]{time} for 1 .. 3;
    }
    my @median = map { median(@{$gaps[$_]}) } 1 .. 3;
    note "medians @median";
    cmp_ok($median[1], '>', 0.1, 'the second delay is some part of 600 ms');
    cmp_ok($median[2], '>', 0.2, 'the third of 1 s');
    cmp_ok((sort { $a <=> $b } @{$gaps[3]})[-1], '<', 1 + 1.5, 'and never more');
    my @third = sort { $a <=> $b } @{$gaps[3]};
    cmp_ok($third[-1] - $third[0], '>', 0.3, 'they are spread');
    $brood->stop;
};

subtest 'killed' => sub {
    put((map { ["k$_", "http://a.test/hang/$_"] } 1 .. 3), (map { ["l$_", "http://b.test/fail/1/kill$_"] } 1 .. 3));
    $brood->restart;
    ok(until_true(5, sub { $world->requests('/hang/') >= 3 }), 'three are under way');
    my ($courier) = $brood->pids('courier');
    kill KILL => $courier;
    ok(until_true(10, sub { $world->requests('/hang/') >= 6 }), 'the courier is killed: they are sent again');
    isnt(($brood->pids('courier'))[0], $courier, 'by another one');
    is_deeply([map { scalar @{log_of("k$_")->[0]{attempts}} } 1 .. 3], [0, 0, 0], 'which counts as no attempt');
    my ($frontend) = $brood->pids('frontend');
    kill KILL => $frontend;
    ok($brood->wait_ready(10), 'the frontend is killed, too');
    is(wait_over("l$_")->{status}, 'delivered', "l$_ is delivered") for 1 .. 3;
    is(wait_over("k$_", 25)->{status}, 'given_up', "k$_ comes to its end") for 1 .. 3;
    my %ids;
    $ids{$_->{headers}{'brood-delivery'}}++ for $world->requests('/hang/');
    is(scalar keys %ids, 3, 'there were three ids in all');
    $brood->stop;
};

# strace fails what the store's thread writes. What a receiver was sent is noted once there is room, and is not sent again.
subtest 'no room for the note' => sub {
    plan skip_all => 'no strace' unless grep { -x "$_/strace" } split /:/, $ENV{PATH};
    $brood = Brood->start(%flags, 'webhooks-timeout-ms' => 4000, dir => $brood->{dir});
    $brood->stop;
    put(['full', 'http://a.test/hang/full']);
    $brood->restart;
    ok(until_true(10, sub { $world->requests('/hang/full') }), 'it is under way');
    my ($pid) = $brood->pids('frontend');
    my $thread = (grep { $_ != $pid } map { m{(\d+)\z} } glob "/proc/$pid/task/*")[0];
    my $log = "$brood->{dir}/strace";
    defined(my $tracer = fork) or die;
    if (!$tracer) {
        open STDERR, '>', "$log.err";
        exec 'strace', '-o', $log, '-p', $thread, '-e', 'trace=pwrite64', '-e', 'inject=pwrite64:error=ENOSPC' or POSIX::_exit(9);
    }
    my $failed = until_true(40, sub { (() = (Brood::slurp($log) // '') =~ /INJECTED/g) >= 4 });
    my @sent = $world->requests('/hang/full');
    kill TERM => $tracer;
    waitpid $tracer, 0;
    ok($failed, 'its note cannot be written, time and again');
    is(scalar @sent, 1, 'it was sent once');
    ok(until_true(10, sub { @{log_of('full')->[0]{attempts}} }), 'there is room: it is noted');
    $brood->stop;
};

subtest 'a dead host' => sub {
    put(['dead', 'http://dead.test/x', 10000], map { ["live$_", "http://b.test/ok/live$_"] } 1 .. 20);
    my $began = time;
    $brood->restart;
    my $ready = time;
    is(wait_over("live$_", 5)->{status}, 'delivered', "live$_") for 1 .. 20;
    cmp_ok(time - $ready, '<', 3, sprintf 'beside 10,000 that fail (%.2f s)', time - $ready);
    $brood->stop;
    my $db = DBI->connect("dbi:SQLite:dbname=$brood->{fs_root}.state/store.db", '', '', {RaiseError => 1});
    my ($dead) = $db->selectrow_array("SELECT count(*) FROM deliveries WHERE attempts > 0 AND job_id LIKE 'dead%'");
    cmp_ok($dead, '<', 40, "of which few were tried ($dead)");
    $db->do('DELETE FROM deliveries');
    $db->disconnect;
    chown +(stat "$brood->{fs_root}.state")[4, 5], glob "$brood->{fs_root}.state/store.db*";
};

subtest 'a key whose receivers hang' => sub {
    $brood = Brood->start(%flags, 'webhooks-timeout-ms' => 60_000, 'webhooks-at-once' => 6, 'webhooks-at-once-host' => 4, dir => $brood->{dir});
    $brood->stop;
    # More than all places, in front of the others' in every order there is: of time, of keys, of hosts.
    put(['h1', 'http://a.test/hang/hog', 20, 'm'], ['h2', 'http://b.test/hang/hog', 20, 'm'], map { ["o$_", "http://$_.test/ok/other-$_", 5, 'a'], ["z$_", "http://$_.test/ok/other-$_", 5, 'z'] } qw(a b));
    $brood->restart;
    ok(until_true(30, sub { $world->requests('/ok/other-') >= 20 }), 'all that other keys have is delivered, also to the same hosts');
    ok(until_true(30, sub { $world->requests('/hang/hog') >= 3 }), 'while others hang');
    $brood->request(GET => '/health') for 1 .. 20;
    my %to;
    $to{$_->{host}}++ for $world->requests('/hang/hog');
    is($to{'a.test'} + $to{'b.test'}, 3, 'a key has half of all places');
    is_deeply([sort { $a <=> $b } values %to], [1, 2], 'and of each host');
    $brood->stop;
};

subtest 'a secret of the operator' => sub {
    Brood::spew("$brood->{dir}/secret", "correct horse battery staple\n");
    chmod 0600, "$brood->{dir}/secret";
    my $it = Brood->start(%flags, 'webhooks-secret-file' => "$brood->{dir}/secret", dir => $brood->{dir});
    $it->stop;
    $brood = $it;
    put(['s', 'http://a.test/ok/s']);
    $it->restart;
    is(wait_over('s')->{status}, 'delivered', 'delivered');
    my ($r) = $world->requests('/ok/s');
    is($r->{headers}{'brood-signature'}, 'v1=' . hmac_sha256_hex("$r->{headers}{'brood-timestamp'}.$r->{body}", 'correct horse battery staple'), 'signed with it');
    $it->stop;
};

subtest 'without webhooks' => sub {
    my $it = Brood->start;
    is_deeply([$it->pids('courier')], [], 'there is no courier');
    ok(!-e "$it->{fs_root}.state/webhook.key", 'nor a secret');
    $it->stop;
    for (['webhooks-allow' => 'ftp://x', qr/webhooks-allow: expected/], ['webhooks-allow-private' => '10.0.0.0/33', qr/webhooks-allow-private: expected/]) {
        my $bad = Brood->start(ready => 0, $_->[0] => $_->[1]);
        ok($bad->wait_exit(5) && $bad->{status} != 0, "$_->[0] $_->[1] does not start");
        like(Brood::slurp($bad->{log}), $_->[2], 'and is named');
    }
    my $short = Brood->start(ready => 0, 'webhooks-allow' => 'x', 'webhooks-secret-file' => '/etc/hostname-that-is-not-there');
    ok($short->wait_exit(5) && $short->{status} != 0, 'nor without the secret that is named');
};
done_testing;
