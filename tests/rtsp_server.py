"""A live RTSP camera by GStreamer, for the tests; run by the system's Python, which has the bindings. Prints its port, and ends with its input."""
import sys, threading
import gi
gi.require_version("Gst", "1.0"); gi.require_version("GstRtspServer", "1.0")
from gi.repository import GLib, Gst, GstRtsp, GstRtspServer

Gst.init(None)
loop, server = GLib.MainLoop(), GstRtspServer.RTSPServer()
server.set_address("127.0.0.1"); server.set_service("0")
size = "width={},height={}".format(*sys.argv[1:3])
for place, protocols in {"/1": None, "/udp": GstRtsp.RTSPLowerTrans.UDP}.items():
    factory = GstRtspServer.RTSPMediaFactory()
    factory.set_launch(f"( videotestsrc is-live=true pattern=ball background-color=4282474385 ! video/x-raw,{size},framerate=15/1 ! "
                       "x264enc tune=zerolatency speed-preset=ultrafast key-int-max=15 ! rtph264pay name=pay0 pt=96 )")
    factory.set_shared(True)
    if protocols: factory.set_protocols(protocols)
    server.get_mount_points().add_factory(place, factory)
server.attach(None)
print(server.get_bound_port(), flush=True)
threading.Thread(target=lambda: (sys.stdin.read(), loop.quit()), daemon=True).start()
loop.run()
