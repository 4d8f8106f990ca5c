package threadbus

import (
	"fmt"
	"net/netip"
	"regexp"
	"strconv"
	"strings"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
)

const defaultPort = "7420"

// hostPort matches a name, an IPv4 address, or an IPv6 address in brackets; optionally a port.
var hostPort = regexp.MustCompile(`^(\[[0-9A-Fa-f:.%\w]+\]|[^\s/:\[\]]+)(?::(\d{1,5}))?$`)

// target returns the HOST:PORT or unix:PATH of an address, and whether to use TLS: as its scheme
// says, or, without one, everywhere but on loopback and Unix sockets.
func target(address string) (endpoint string, secure bool, err error) {
	if strings.HasPrefix(address, "unix:") && address != "unix:" {
		return address, false, nil
	}
	scheme, rest, found := strings.Cut(address, "://")
	if !found {
		scheme, rest = "", address
	}
	host, port := "", ""
	if ip, err := netip.ParseAddr(rest); err == nil && ip.Is6() {
		host = "[" + rest + "]"
	} else if parts := hostPort.FindStringSubmatch(rest); parts != nil {
		host, port = parts[1], parts[2]
	}
	if port == "" {
		port = defaultPort
	}
	number, _ := strconv.Atoi(port)
	hint := ""
	switch {
	case found && scheme != "tls" && scheme != "plaintext":
		hint = ": leave out " + scheme + "://"
	case host == "" || number < 1 || number > 65535:
		hint = ", with a PORT from 1 to 65535"
	default:
		secure = scheme == "tls" || scheme == "" && !loopback(host)
		return host + ":" + port, secure, nil
	}
	return "", false, misused("%q is neither HOST, HOST:PORT nor unix:PATH%s", address, hint)
}

// loopback reports whether host is on this machine, as spelled: a name may resolve to anything.
func loopback(host string) bool {
	if strings.EqualFold(host, "localhost") {
		return true
	}
	ip, err := netip.ParseAddr(strings.Trim(host, "[]"))
	return err == nil && (ip.Is4() && ip.IsLoopback() || ip == netip.IPv6Loopback())
}

// misused returns an INVALID_ARGUMENT error for an argument of Connect.
func misused(format string, values ...any) error {
	return ErrorOf(status.Error(codes.InvalidArgument, fmt.Sprintf(format, values...)))
}
