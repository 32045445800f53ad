package probe

import (
	"context"
	"fmt"
	"io"
	"net"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/encoding"
	"google.golang.org/grpc/encoding/proto"
	"google.golang.org/grpc/grpclog"
	health "google.golang.org/grpc/health/grpc_health_v1"
	"google.golang.org/grpc/mem"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/stats"
	"google.golang.org/grpc/status"

	"vedette/internal/uptime"
)

// grpcLimit bounds the headers and the answer of a health check, in bytes.
const grpcLimit = 64 << 10

// grpcConfig is the config of a gRPC monitor.
type grpcConfig struct {
	Security string     `json:"security" enum:"none,tls" doc:"whether TLS is spoken"`
	Service  string     `json:"service" max:"1024" doc:"the service whose health is asked for; empty is the whole server"`
	Headers  httpHeader `json:"headers" doc:"metadata of the call; values that look like credentials are kept secret"`
	TLS      tlsConfig  `json:"tls"`
	netConfig
}

// newGRPC is the "grpc" check type.
func newGRPC() Type {
	quietGRPC()
	return kind[grpcConfig]{
		name:   "grpc",
		about:  "Asks a gRPC server for its health (`grpc.health.v1.Health/Check`). Up is SERVING, unless an assertion is about `serving_status`.",
		target: hostPort(0),
		config: grpcConfig{Security: "none", TLS: defaultTLS(), netConfig: defaultNet()},
		sources: merged(addressSource(), certSources(), map[string]source{
			"serving_status": textSource("serving_status", "the status that the server gives: SERVING, NOT_SERVING or UNKNOWN", uptime.NotReady),
		}),
		examples: []uptime.CheckExample{{
			Title: "The health of one service, with a token", Target: "orders.example:443",
			Config:     `{"security":"tls","service":"shop.Orders","headers":{"authorization":"Bearer secret"}}`,
			Assertions: `[{"source":"duration","op":"lt","value":"1s","severity":"degraded"}]`,
		}},
		compile: func(b *builder, cfg *grpcConfig) Check {
			cfg.Headers.validate(b.problems)
			for name := range cfg.Headers {
				if strings.HasPrefix(strings.ToLower(name), "grpc-") {
					b.problems.Add("config.headers."+clean(name, 60), "is set by Vedette and cannot be chosen")
				}
			}
			b.network(cfg.netConfig)
			b.tls(cfg.TLS)
			b.base.tls.protocols = []string{"h2"}
			b.base.secrets = addSecrets(b.base.secrets, cfg.Headers.secrets()...)
			c := &grpcCheck{cfg: cfg, agent: b.env.UserAgent, ownStatus: b.asserts("serving_status")}
			return b.check(c.do)
		},
	}
}

// quietGRPC silences the library: it has one log for the process, and by default
// writes there what a target makes it stumble over.
var quietGRPC = sync.OnceFunc(func() { grpclog.SetLoggerV2(grpclog.NewLoggerV2(io.Discard, io.Discard, io.Discard)) })

// grpcCheck is a gRPC monitor made ready.
type grpcCheck struct {
	cfg       *grpcConfig
	agent     string
	ownStatus bool // some assertion judges the serving status
}

// do makes one call on one connection.
func (c *grpcCheck) do(r *session) *fault {
	r.seen.Request = "grpc.health.v1.Health/Check " + clean(c.cfg.Service, 200)
	conn, f := r.connect()
	if f != nil {
		return f
	}
	creds := insecure.NewCredentials()
	if c.cfg.Security == "tls" {
		secured, f := r.secure(conn, r.target.host, true)
		if f != nil {
			return f
		}
		if secured.ConnectionState().NegotiatedProtocol != "h2" {
			return down(uptime.Protocol, "The server does not agree to HTTP/2 (ALPN h2), which gRPC is spoken over.")
		}
		conn, creds = secured, grpcSecured{creds}
	}
	handed := &handOver{Conn: conn}
	end := &grpcEnd{CodecV2: encoding.GetCodecV2(proto.Name)}
	client, err := c.client(r, handed, creds, end)
	if err != nil {
		return unknown(uptime.InternalError, "The gRPC client cannot be made: %s.", clean(err.Error(), 150))
	}
	defer func() { _ = client.Close() }()
	return c.call(r, client, handed, end)
}

// client speaks on the connection handed over: it resolves nothing, knows no proxy,
// and tries once.
func (c *grpcCheck) client(r *session, handed *handOver, creds credentials.TransportCredentials, end *grpcEnd) (*grpc.ClientConn, error) {
	return grpc.NewClient("passthrough:///"+r.target.hostHeader(),
		grpc.WithContextDialer(func(context.Context, string) (net.Conn, error) { return handed.dial() }),
		grpc.WithTransportCredentials(creds), grpc.WithAuthority(r.target.hostHeader()), grpc.WithUserAgent(c.agent),
		grpc.WithNoProxy(), grpc.WithDisableRetry(), grpc.WithDisableServiceConfig(), grpc.WithDisableHealthCheck(), grpc.WithIdleTimeout(0),
		grpc.WithMaxHeaderListSize(grpcLimit), grpc.WithDefaultCallOptions(grpc.MaxCallRecvMsgSize(grpcLimit), grpc.ForceCodecV2(end)), grpc.WithStatsHandler(end),
		grpc.WithStaticConnWindowSize(grpcLimit), grpc.WithStaticStreamWindowSize(grpcLimit))
}

// call asks for the health and judges the answer.
func (c *grpcCheck) call(r *session, client *grpc.ClientConn, handed *handOver, end *grpcEnd) *fault {
	// The server is not told when the check ends: it would give up at the same instant,
	// and which of the two words came first would decide the reason.
	ctx, cancel := context.WithCancel(context.WithoutCancel(r.ctx))
	defer cancel()
	defer context.AfterFunc(r.ctx, cancel)()
	begin := time.Now()
	answer, err := health.NewHealthClient(client).Check(metadata.NewOutgoingContext(ctx, metadata.New(c.cfg.Headers)),
		&health.HealthCheckRequest{Service: c.cfg.Service})
	r.phases.FirstByte = time.Since(begin)
	if err != nil {
		// The rest is what the library makes of a connection that broke, of a server that
		// is none, and of an answer that cannot be read.
		if end.said() && r.ctx.Err() == nil {
			return c.refused(status.Convert(err))
		}
		return r.talkFault(handed.cause(grpcText(err)), "the answer of the health service")
	}
	r.seen.Protocol = "gRPC"
	r.seen.Body = answer.GetStatus().String()
	r.setText("serving_status", answer.GetStatus().String())
	if answer.GetStatus() != health.HealthCheckResponse_SERVING && !c.ownStatus {
		return down(uptime.NotReady, "The health service says %s%s.", clean(answer.GetStatus().String(), 40), c.of())
	}
	return nil
}

// of names the service that was asked for.
func (c *grpcCheck) of() string {
	if c.cfg.Service == "" {
		return ""
	}
	return " of the service " + clean(c.cfg.Service, 100)
}

// grpcText is the message of a status without its code, which is of the library's
// making when there was no answer.
func grpcText(err error) error { return fmt.Errorf("%s", status.Convert(err).Message()) }

// refused is what a call that the server answered with an error says.
func (c *grpcCheck) refused(s *status.Status) *fault {
	said := clean(s.Message(), 150)
	switch s.Code() {
	case codes.Unimplemented:
		return down(uptime.NotReady, "The server speaks gRPC, but has no health service (UNIMPLEMENTED).")
	case codes.NotFound:
		return down(uptime.NotReady, "The health service does not know%s (NOT_FOUND).", strings.TrimPrefix(c.of(), " of"))
	case codes.Unauthenticated, codes.PermissionDenied:
		return down(uptime.AuthFailed, "The server refused the call: %s: %s.", s.Code(), said)
	}
	return down(uptime.NotReady, "The health service answers with an error: %s: %s.", s.Code(), said)
}

// grpcEnd tells a status that the server gave from one that the library made up. The
// server's comes in trailers, and is not the call's where the message before them could
// not be read: it is no health, or packed, though we never say that we unpack.
type grpcEnd struct {
	encoding.CodecV2
	ended, packed, unread atomic.Bool
}

// said reports whether the call's status is the server's own.
func (e *grpcEnd) said() bool { return e.ended.Load() && !e.packed.Load() && !e.unread.Load() }

// Name implements encoding.CodecV2. It is what would follow application/grpc+ in the
// type of our request, where everyone knows it.
func (*grpcEnd) Name() string { return "" }

// Unmarshal implements encoding.CodecV2.
func (e *grpcEnd) Unmarshal(b mem.BufferSlice, v any) error {
	err := e.CodecV2.Unmarshal(b, v)
	e.unread.Store(err != nil)
	return err
}

// HandleRPC implements stats.Handler.
func (e *grpcEnd) HandleRPC(_ context.Context, s stats.RPCStats) {
	switch s := s.(type) {
	case *stats.InHeader:
		e.packed.Store(s.Compression != "" && s.Compression != encoding.Identity)
	case *stats.InTrailer:
		e.ended.Store(true)
	}
}

// TagRPC implements stats.Handler.
func (e *grpcEnd) TagRPC(ctx context.Context, _ *stats.RPCTagInfo) context.Context { return ctx }

// TagConn implements stats.Handler.
func (e *grpcEnd) TagConn(ctx context.Context, _ *stats.ConnTagInfo) context.Context { return ctx }

// HandleConn implements stats.Handler.
func (e *grpcEnd) HandleConn(context.Context, stats.ConnStats) {}

// grpcSecured are credentials for a connection on which TLS stands already.
type grpcSecured struct {
	credentials.TransportCredentials
}

// ClientHandshake implements credentials.TransportCredentials.
func (grpcSecured) ClientHandshake(_ context.Context, _ string, c net.Conn) (net.Conn, credentials.AuthInfo, error) {
	return c, credentials.TLSInfo{CommonAuthInfo: credentials.CommonAuthInfo{SecurityLevel: credentials.PrivacyAndIntegrity}}, nil
}

// Info implements credentials.TransportCredentials.
func (grpcSecured) Info() credentials.ProtocolInfo {
	return credentials.ProtocolInfo{SecurityProtocol: "tls"}
}

// Clone implements credentials.TransportCredentials.
func (s grpcSecured) Clone() credentials.TransportCredentials { return s }
