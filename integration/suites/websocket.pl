#!/usr/bin/perl
# websocket.pl URL TEXT: what is behind an address that Exec, Attach or PortForward of the CRI gave, by WebSocket.
# Sends standard input on channel 0 (nothing, if it is empty) and prints what comes on the others until TEXT is in it.
use strict;
use warnings;
use Socket;
use IO::Handle;

my ($url, $expected) = @ARGV;
my ($host, $port, $path) = $url =~ m{^http://([\d.]+):(\d+)(/.*)$} or die "no such address: $url\n";
alarm 60;
socket(my $peer, AF_INET, SOCK_STREAM, 0) or die "socket: $!\n";
connect($peer, pack_sockaddr_in($port, inet_aton($host))) or die "connect: $!\n";
binmode $peer;
$peer->autoflush(1);
print $peer "GET $path HTTP/1.1\r\nHost: $host:$port\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
    . "Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: cnRjIHRlc3RzIHJ0YyB0ZQ==\r\n"
    . "Sec-WebSocket-Protocol: v4.channel.k8s.io\r\n\r\n";
my $line = <$peer> // die "no answer\n";
$line =~ / 101 / or die "refused: $line", <$peer>;
while (defined($line) && $line ne "\r\n") { $line = <$peer>; }

my $input = join "", <STDIN>;
# A client masks what it sends; zeros change nothing. One frame, binary, of less than 126 bytes.
print $peer pack("CC", 0x82, 0x80 | (length($input) + 1)), "\0\0\0\0", "\0", $input if length $input;

sub take {
    my ($length) = @_;
    read($peer, my $bytes, $length) == $length or die "the end came early\n" if $length;
    return $bytes // "";
}

my $seen = "";
until ($seen =~ /\Q$expected\E/) {
    my ($kind, $length) = unpack "CC", take(2);
    $length = unpack "n", take(2) if $length == 126;
    my $payload = take($length);
    die "closed before $expected: $seen\n" if ($kind & 15) == 8;
    $seen .= substr($payload, 1) if length $payload;
}
print $seen;
