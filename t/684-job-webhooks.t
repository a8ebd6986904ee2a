#!/usr/bin/env perl
# SPDX-License-Identifier: Apache-2.0
# t/684-job-webhooks.t - callback_url of a job, from POST /submit to the receiver: who may be named, that each end is told, that what
# is told is what /status says, whose the log is, and that killing anything, at any moment, takes no job's delivery along.
use lib 't/lib';
use Brood;
use Brood::Jobs;
use Brood::Receivers;
use Digest::SHA qw(hmac_sha256_hex);
use Mojo::JSON qw(decode_json);
use Time::HiRes qw(time);

Brood::require_layer(qw(root ip nsenter python3 openssl));
my $world = Brood::Receivers->new({'a.test' => ['9.1.1.1'], 'b.test' => ['9.1.1.2'], 'private.test' => ['10.9.9.9']}, tls => 1, no_canary => 1);
my %flags = (wrap => [$world->inside], 'languages-dir' => '', 'webhooks-allow' => 'a.test,http://a.test,http://b.test,http://private.test',
    'webhooks-ca-file' => $world->{ca}, 'webhooks-delay-first-ms' => 200, 'webhooks-delay-max-s' => 1, 'webhooks-attempts' => 5,
    'webhooks-timeout-ms' => 2000, 'webhooks-connect-timeout-ms' => 1000, 'http-threads' => 2);
my $brood = Brood->start(%flags);
chomp(my $secret = Brood::slurp("$brood->{fs_root}.state/webhook.key"));

sub deliveries {
    my ($id, %opt) = @_;
    my $r = $brood->request(GET => "/v1/jobs/$id/deliveries", %opt);
    return $r && $r->{status} == 200 ? $r->{json}{deliveries} : [];
}

# The delivery of that job once it is over.
sub told {
    my ($id, $timeout) = @_;
    until_true($timeout // 15, sub { my $l = deliveries($id); @$l && $l->[0]{status} ne 'pending' });
    return deliveries($id)->[0] // {};
}

sub told_to {
    my ($path) = @_;
    return map { {%$_, job => decode_json($_->{body})} } grep { $_->{path} eq $path } $world->requests($path);
}

subtest 'each end is told' => sub {
    my %code = (completed => 'echo out', failed => 'echo no >&2; exit 3', timeout => 'sleep 20');
    my %id = map { $_ => submit($brood, $code{$_}, timeout => 0.5, userId => 'me', callback_url => "https://a.test/end/$_")->{executionId} } keys %code;
    for my $status (sort keys %id) {
        is(told($id{$status})->{status}, 'delivered', "$status: told");
        my ($r, @more) = told_to("/end/$status");
        is(scalar @more, 0, 'once');
        is_deeply([@{$r->{job}}{qw(executionId userId status)}], [$id{$status}, 'me', $status], 'with its end');
        is_deeply($r->{job}, {%{$brood->request(GET => "/status?id=$id{$status}")->{json}}}, 'as /status has it');
        is($r->{headers}{'brood-signature'}, 'v1=' . hmac_sha256_hex("$r->{headers}{'brood-timestamp'}.$r->{body}", $secret), 'signed');
    }
    my $gone = submit($brood, 'sleep 100', callback_url => 'http://b.test/cancelled')->{executionId};
    until_true(5, sub { status($brood, $gone)->{status} eq 'running' });
    cancel($brood, $gone);
    is(told($gone)->{status}, 'delivered', 'one that is cancelled, too');
    is(((told_to('/cancelled'))[0] // {})->{job}{reason}, 'cancelled', 'says so');
    my $quiet = submit($brood, 'true')->{executionId};
    is(ended($brood, $quiet)->{status}, 'completed', 'one that names nobody ends');
    is($brood->request(GET => "/v1/jobs/$quiet/deliveries")->{status}, 404, 'and has no deliveries');
};

subtest 'who may be named' => sub {
    for my $url ('https://evil.test/', 'http://a.test:81/', 'https://b.test/', 'ftp://a.test/', 'http://user@a.test/', 'http://a.test@evil.test/', 'a.test', '', ' http://a.test/',
        "http://a.test/\n", 'http://a.test/' . 'x' x 2048, "http://\x{e4}.test/", 'http://127.0.0.1/', "http://a.test/\0", 7, [], undef) {
        my $r = submit($brood, 'true', callback_url => $url);
        my $name = substr($url // 'null', 0, 30) =~ s/[^ -~]/?/gr;
        is($r->{http}, 400, "$name: 400");
        like($r->{error}{message} // $r->{error} // '', qr/^callback_url/, 'naming the field');
    }
    is(submit($brood, 'true', callback_url => 'http://a.test/' . 'x' x (2048 - 14))->{http}, 202, '2048 bytes are fine');
    my $private = submit($brood, 'true', callback_url => 'http://private.test/private-x')->{executionId};
    like(told($private, 20)->{attempts}[0]{error}, qr/private address/, 'a listed name with a private address is not connected to');
    is(scalar(my @none = $world->requests('/private-x')), 0, 'and hears nothing');
};

subtest 'killed, again and again' => sub {
    my @ids;
    my $began = time;
    my $round = 0;
    while (time < $began + 12) {
        for (1 .. 10) {
            my $n = @ids;
            my $r = submit($brood, 'sleep 0.0' . $n % 5, callback_url => 'http://' . ($n % 2 ? 'a' : 'b') . ".test/fail/" . ($n % 3) . "/killed$n");
            push @ids, $r->{executionId} if $r->{http} == 202;
        }
        my $role = (qw(frontend courier priv))[$round++ % 3];
        # Another moment each time; but a frontend that dies young five times in a row ends the service.
        select undef, undef, undef, 1.05 + rand 0.5;
        kill KILL => $brood->pids($role);
        if ($role eq 'priv') {
            $brood->wait_exit(5);
            until_true(10, sub { !grep { $_->{role} =~ /engine|frontend|courier/ } $brood->processes });
            $brood->restart;
        }
        until_true(10, sub { my $r = $brood->request(GET => '/ready'); $r && $r->{status} == 200 });
    }
    note scalar(@ids), " jobs, $round kills";
    cmp_ok(scalar @ids, '>', 50, 'there were jobs');
    my @missing = @ids;
    until_true(40, sub { @missing = grep { (told($_, 0)->{status} // '') ne 'delivered' } @missing; !@missing });
    is_deeply(\@missing, [], 'all of them are told');
    my (%told, %delivery);
    for my $r ($world->requests('/fail/')) {
        my $job = eval { decode_json($r->{body}) } // {};
        $told{$job->{executionId} // ''}++;
        $delivery{$job->{executionId} // ''}{$r->{headers}{'brood-delivery'}} = 1;
    }
    is_deeply([grep { !$told{$_} } @ids], [], 'their receivers heard it');
    is_deeply([grep { keys %{$delivery{$_}} != 1 } @ids], [], 'with one id for each, whatever was repeated');
};

subtest 'whose it is' => sub {
    $brood->stop;
    my $it = Brood->start(%flags, 'api-keys' => 'aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa:ann,bbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbb:bob');
    $brood = $it;
    my %key = (ann => {Authorization => 'Bearer ' . 'a' x 32}, bob => {Authorization => 'Bearer ' . 'b' x 32});
    my $r = submit($it, 'true', callback_url => 'http://a.test/ok/ann', headers => $key{ann});
    is($r->{http}, 202, 'submitted') or diag explain $r;
    ok(until_true(10, sub { my $l = deliveries($r->{executionId}, headers => $key{ann}); @$l && $l->[0]{status} eq 'delivered' }), 'its key sees it');
    is($it->request(GET => "/v1/jobs/$r->{executionId}/deliveries", headers => $key{bob})->{status}, 404, 'another does not');
    is($it->request(GET => "/v1/jobs/$r->{executionId}/deliveries")->{status}, 401, 'nor does none');
};
$brood->stop;

subtest 'without webhooks' => sub {
    my $it = Brood->start('languages-dir' => '');
    my $r = submit($it, 'true', callback_url => 'http://a.test/');
    is($r->{http}, 400, 'callback_url is refused');
    like($r->{error}{message}, qr/^callback_url: this service has no webhooks/, 'says so');
    $it->stop;
};
done_testing;
