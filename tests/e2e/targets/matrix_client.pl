#!/usr/bin/perl
# SPDX-License-Identifier: BSD-2-Clause
# An HTTPS client with IO::Socket::SSL. Usage: matrix_client.pl PORT TARGETS, where TARGETS is a
# JSON file: a list of lanes, each a list of targets that are requested one after another.
use strict;
use warnings;
use IO::Socket::SSL;
use JSON::PP;

my ($port, $path) = @ARGV;
open(my $file, '<', $path) or die "$path: $!";
my @lanes = @{decode_json(join('', <$file>))};

sub connection {
    return IO::Socket::SSL->new(PeerHost => '127.0.0.1', PeerPort => $port,
                                SSL_verify_mode => SSL_VERIFY_NONE) || die $SSL_ERROR;
}

# Returns whether the connection stays.
sub read_response {
    my ($tls) = @_;
    my ($length, $stays, $body) = (0, 1, '');
    while ((my $line = <$tls>) =~ /\S/) {
        $length = $1 if $line =~ /^content-length:\s*(\d+)/i;
        $stays = 0 if $line =~ /^connection:\s*close/i;
    }
    while (length($body) < $length) {
        $tls->sysread($body, $length - length($body), length($body)) or die 'the body ends';
    }
    return $stays;
}

my @connections;
for my $round (0 .. $#{$lanes[0]}) {
    for my $lane (0 .. $#lanes) {
        $connections[$lane] ||= connection();
        $connections[$lane]->syswrite(
            "GET $lanes[$lane][$round] HTTP/1.1\r\nHost: localhost\r\n\r\n");
    }
    for my $lane (0 .. $#lanes) {
        next if read_response($connections[$lane]);
        $connections[$lane]->close();
        $connections[$lane] = undef;
    }
}
