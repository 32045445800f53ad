package probe

import (
	"bytes"
	"context"
	"crypto/tls"
	"encoding/json"
	"errors"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"golang.org/x/net/http2"
	"golang.org/x/net/http2/hpack"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/health"
	healthpb "google.golang.org/grpc/health/grpc_health_v1"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"

	"vedette/internal/testenv"
	"vedette/internal/uptime"
)

// grpcServe is the library's own server, with whatever register adds to it. It refuses
// a wrong token.
func grpcServe(t *testing.T, tlsConfig *tls.Config, register func(*grpc.Server)) string {
	t.Helper()
	quietGRPC() // before anything logs
	opts := []grpc.ServerOption{grpc.UnaryInterceptor(func(ctx context.Context, req any, _ *grpc.UnaryServerInfo, next grpc.UnaryHandler) (any, error) {
		if md, _ := metadata.FromIncomingContext(ctx); strings.Join(md["authorization"], "") == "Bearer wrong-canary" {
			return nil, status.Error(codes.Unauthenticated, "not with wrong-canary")
		}
		return next(ctx, req)
	})}
	if tlsConfig != nil {
		opts = append(opts, grpc.Creds(credentials.NewTLS(tlsConfig)))
	}
	s := grpc.NewServer(opts...)
	register(s)
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(s.Stop)
	go func() { _ = s.Serve(l) }()
	return l.Addr().String()
}

// grpcHealth serves the health of a server that works, of a service that does and of
// one that does not.
func grpcHealth(s *grpc.Server) {
	h := health.NewServer()
	h.SetServingStatus("shop.Orders", healthpb.HealthCheckResponse_SERVING)
	h.SetServingStatus("shop.Bills", healthpb.HealthCheckResponse_NOT_SERVING)
	healthpb.RegisterHealthServer(s, h)
}

// grpcAnswers is a health service that always answers the same.
type grpcAnswers struct {
	healthpb.UnimplementedHealthServer
	err  error
	wait bool // until the client goes
	late bool // a while, and then SERVING
	cuts bool // DEADLINE_EXCEEDED if it is told when we leave
}

func (g grpcAnswers) Check(ctx context.Context, _ *healthpb.HealthCheckRequest) (*healthpb.HealthCheckResponse, error) {
	if g.late {
		<-time.After(short)
		return &healthpb.HealthCheckResponse{Status: healthpb.HealthCheckResponse_SERVING}, nil
	}
	if g.wait {
		<-ctx.Done()
	}
	if _, told := ctx.Deadline(); told && g.cuts {
		return nil, context.DeadlineExceeded
	} else if g.cuts {
		return &healthpb.HealthCheckResponse{Status: healthpb.HealthCheckResponse_SERVING}, nil
	}
	return &healthpb.HealthCheckResponse{}, g.err
}

func grpcRegister(g grpcAnswers) func(*grpc.Server) {
	return func(s *grpc.Server) { healthpb.RegisterHealthServer(s, g) }
}

func TestGRPC(t *testing.T) {
	t.Parallel()
	down, up := uptime.VerdictDown, uptime.VerdictUp
	server, ca := brokerTLS(t)
	trusted := map[string]any{"ca_pem": ca}
	server.NextProtos = []string{"h2"}
	plain, secure := grpcServe(t, nil, grpcHealth), grpcServe(t, server, grpcHealth)
	bare := grpcServe(t, nil, func(*grpc.Server) {})
	status := func(v string) []uptime.Assertion {
		return []uptime.Assertion{assert("serving_status", "", "eq", v)}
	}
	pages := httptest.NewServer(http.NotFoundHandler())
	t.Cleanup(pages.Close)
	h2pages := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { _, _ = w.Write([]byte("<html>")) }))
	h2pages.EnableHTTP2, h2pages.TLS = true, server.Clone()
	h2pages.StartTLS()
	t.Cleanup(h2pages.Close)
	noALPN := server.Clone()
	noALPN.NextProtos = nil
	plainTLS, err := tls.Listen("tcp", "127.0.0.1:0", noALPN)
	if err != nil {
		t.Fatal(err)
	}
	brokerServeOn(t, plainTLS, brokerSilent)
	address := func(s *httptest.Server) string { return s.Listener.Addr().String() }
	const serving = "\x00\x00\x00\x00\x02\x08\x01"
	answers := func(say func(*http2.Framer), then func(net.Conn), more ...string) string {
		return brokerServe(t, grpcAnswersWith(say, then, more...))
	}
	brokerCases(t, "grpc", map[string]brokerCase{
		"a server that serves is up":             {target: plain, verdict: up},
		"a service that serves is up":            {target: plain, config: `{"service":"shop.Orders"}`, verdict: up},
		"an asserted NOT_SERVING is up":          {target: plain, config: `{"service":"shop.Bills"}`, assertions: status("NOT_SERVING"), verdict: up},
		"TLS is up":                              {target: secure, config: brokerConfig(map[string]any{"security": "tls", "tls": trusted}), verdict: up},
		"metadata is sent":                       {target: plain, config: `{"headers":{"Authorization":"Bearer right"}}`, verdict: up},
		"a slow answer in time is up":            {target: grpcServe(t, nil, grpcRegister(grpcAnswers{late: true})), verdict: up},
		"NOT_SERVING is not_ready":               {target: plain, config: `{"service":"shop.Bills"}`, verdict: down, reason: uptime.NotReady, says: "NOT_SERVING of the service shop.Bills"},
		"another status than asserted":           {target: plain, assertions: status("NOT_SERVING"), verdict: down, reason: uptime.NotReady},
		"an unknown service is not_ready":        {target: plain, config: `{"service":"shop.Carts"}`, verdict: down, reason: uptime.NotReady, says: "does not know"},
		"UNKNOWN is not_ready":                   {target: grpcServe(t, nil, grpcRegister(grpcAnswers{})), verdict: down, reason: uptime.NotReady, says: "UNKNOWN"},
		"a missing health service says so":       {target: bare, verdict: down, reason: uptime.NotReady, says: "no health service"},
		"a refused token is auth_failed":         {target: plain, config: `{"headers":{"authorization":"Bearer wrong-canary"}}`, verdict: down, reason: uptime.AuthFailed},
		"an unavailable service is not_ready":    {target: grpcServe(t, nil, grpcRegister(grpcAnswers{err: errGRPCBusy})), verdict: down, reason: uptime.NotReady, says: "busy"},
		"a server that would cut us off in time": {target: grpcServe(t, nil, grpcRegister(grpcAnswers{cuts: true})), verdict: up},
		"a service that hangs is timeout":        {target: grpcServe(t, nil, grpcRegister(grpcAnswers{wait: true})), timeout: 2 * short, verdict: down, reason: uptime.Timeout},
		"an untrusted certificate":               {target: secure, config: `{"security":"tls"}`, verdict: down, reason: uptime.TLSUntrusted},
		"TLS on a port without it":               {target: plain, config: `{"security":"tls"}`, verdict: down, reason: uptime.TLSHandshake},
		"no TLS on a port with it":               {target: secure, verdict: down, reason: uptime.ConnClosed, or: uptime.ConnReset},
		"TLS without HTTP/2":                     {target: plainTLS.Addr().String(), config: brokerConfig(map[string]any{"security": "tls", "tls": trusted}), verdict: down, reason: uptime.Protocol, says: "ALPN"},
		"a web server of HTTP/1.1 is protocol":   {target: address(pages), verdict: down, reason: uptime.Protocol},
		"a web server of HTTP/2 is protocol":     {target: address(h2pages), config: brokerConfig(map[string]any{"security": "tls", "tls": trusted}), verdict: down, reason: uptime.Protocol, says: "content-type"},
		"SSH is protocol":                        {target: brokerServe(t, brokerSays("SSH-2.0-OpenSSH_9.2\r\n")), verdict: down, reason: uptime.Protocol},
		"refused":                                {target: talkClosed(t), verdict: down, reason: uptime.ConnRefused},
		"silent after connect":                   {target: brokerServe(t, brokerSilent), timeout: short, verdict: down, reason: uptime.Timeout},
		"silent after the settings":              {target: brokerServe(t, grpcSettings(brokerSilent)), timeout: short, verdict: down, reason: uptime.Timeout},
		"closed without an answer":               {target: brokerServe(t, brokerCloses), verdict: down, reason: uptime.ConnClosed},
		"closed after the settings":              {target: brokerServe(t, grpcSettings(func(net.Conn) {})), verdict: down, reason: uptime.ConnClosed},
		"a bare answer is up":                    {target: answers(grpcMessage(serving, true), brokerSilent), verdict: up},
		"silent after the head":                  {target: answers(func(*http2.Framer) {}, brokerSilent), timeout: short, verdict: down, reason: uptime.Timeout},
		"silent after the message":               {target: answers(grpcMessage(serving, false), brokerSilent), timeout: short, verdict: down, reason: uptime.Timeout},
		"closed after the head":                  {target: answers(func(*http2.Framer) {}, testenv.HangUp), verdict: down, reason: uptime.ConnClosed},
		"closed in the message":                  {target: answers(grpcMessage(serving[:6], false), testenv.HangUp), verdict: down, reason: uptime.ConnClosed},
		"reset in the message":                   {target: answers(grpcMessage(serving[:6], false), testenv.Reset), verdict: down, reason: uptime.ConnReset},
		"a stream broken off is protocol":        {target: answers(func(f *http2.Framer) { _ = f.WriteRSTStream(1, http2.ErrCodeInternal) }, brokerSilent), verdict: down, reason: uptime.Protocol, says: "RST_STREAM"},
		"an end without trailers is protocol":    {target: answers(func(f *http2.Framer) { _ = f.WriteData(1, true, []byte(serving)) }, brokerSilent), verdict: down, reason: uptime.Protocol},
		"a message that claims 2 GiB":            {target: answers(grpcMessage("\x00\x7f\xff\xff\xff", false), brokerSilent), verdict: down, reason: uptime.Protocol, says: "larger"},
		"a message that is no health":            {target: answers(grpcMessage("\x00\x00\x00\x00\x02\xff\xff", true), brokerSilent), verdict: down, reason: uptime.Protocol},
		"a packed message":                       {target: answers(grpcMessage("\x01\x00\x00\x00\x02\x08\x01", true), brokerSilent, "grpc-encoding", "zstd"), verdict: down, reason: uptime.Protocol, says: "zstd"},
		"frames of no known type without end":    {target: brokerServe(t, grpcSettings(brokerRepeats("", "\x00\x40\x00\x5f\x00\x00\x00\x00\x00"+strings.Repeat("x", 16384)))), verdict: down, reason: uptime.Protocol},
		"pings without end":                      {target: brokerServe(t, grpcSettings(brokerRepeats("", strings.Repeat("\x00\x00\x08\x06\x00\x00\x00\x00\x00pingping", 1000)))), verdict: down, reason: uptime.Protocol},
		"a frame larger than agreed is protocol": {target: brokerServe(t, brokerSays("\xff\xff\xff\x04\x00\x00\x00\x00\x00")), verdict: down, reason: uptime.Protocol},
	})
}

var errGRPCBusy = status.Error(codes.Unavailable, "busy")

// grpcSettings begins as a server of HTTP/2 does.
func grpcSettings(then func(net.Conn)) func(net.Conn) {
	return func(c net.Conn) {
		f := http2.NewFramer(c, c)
		_ = f.WriteSettings()
		_ = f.WriteSettingsAck()
		_, _ = c.Read(make([]byte, 4096))
		then(c)
	}
}

// grpcAnswersWith begins as a server of HTTP/2 does, waits for the call, and sends the
// head of an answer and then what say writes of it.
func grpcAnswersWith(say func(*http2.Framer), then func(net.Conn), more ...string) func(net.Conn) {
	return func(c net.Conn) {
		f := http2.NewFramer(c, c)
		_, _ = io.ReadFull(c, make([]byte, len(http2.ClientPreface)))
		_ = f.WriteSettings()
		for called := false; !called; {
			frame, err := f.ReadFrame()
			if err != nil {
				return
			}
			_, called = frame.(*http2.HeadersFrame)
		}
		head := append([]string{":status", "200", "content-type", "application/grpc"}, more...)
		_ = f.WriteHeaders(http2.HeadersFrameParam{StreamID: 1, BlockFragment: grpcHead(head...), EndHeaders: true})
		say(f)
		then(c)
	}
}

// grpcMessage is a message of an answer, and with ends the trailers of one that went well.
func grpcMessage(b string, ends bool) func(*http2.Framer) {
	return func(f *http2.Framer) {
		_ = f.WriteData(1, false, []byte(b))
		if ends {
			_ = f.WriteHeaders(http2.HeadersFrameParam{StreamID: 1, BlockFragment: grpcHead("grpc-status", "0"), EndHeaders: true, EndStream: true})
		}
	}
}

// grpcHead packs names and values of a header in turn.
func grpcHead(pairs ...string) []byte {
	var b bytes.Buffer
	e := hpack.NewEncoder(&b)
	for i := 0; i < len(pairs); i += 2 {
		_ = e.WriteField(hpack.HeaderField{Name: pairs[i], Value: pairs[i+1]})
	}
	return b.Bytes()
}

func TestGRPCRefusesAConfigThatCannotBeRun(t *testing.T) {
	t.Parallel()
	for config, path := range map[string]string{
		`{"security":"ssl"}`:                "config.security",
		`{"headers":{"grpc-timeout":"1S"}}`: "config.headers.grpc-timeout",
		`{"headers":{"x":"a\nb"}}`:          "config.headers.x",
	} {
		_, err := New(testEnv()).Compile(uptime.Monitor{Type: "grpc", Target: "orders.example:443", Config: json.RawMessage(config)})
		if e, ok := errors.AsType[*uptime.Error](err); !ok || e.Fields[0].Path != path {
			t.Errorf("Compile of %s = %v, want a problem of %s", config, err, path)
		}
	}
}

func TestGRPCExamples(t *testing.T) {
	t.Parallel()
	server, ca := brokerTLS(t)
	runExample(t, "grpc", 0, grpcServe(t, server, grpcHealth), func(c map[string]any) { c["tls"] = map[string]any{"ca_pem": ca} })
}

func TestGRPCLeavesNothingBehind(t *testing.T) {
	brokerSteady(t, "grpc",
		brokerCase{target: brokerServe(t, brokerSilent)},
		brokerCase{target: brokerServe(t, grpcSettings(brokerSilent))},
		brokerCase{target: brokerServe(t, brokerSays("SSH-2.0-OpenSSH_9.2\r\n"))},
		brokerCase{target: grpcServe(t, nil, grpcRegister(grpcAnswers{wait: true}))},
	)
}
