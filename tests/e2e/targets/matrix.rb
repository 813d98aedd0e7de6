# SPDX-License-Identifier: BSD-2-Clause
# HTTPS with Ruby's libraries.
# Usage: matrix.rb webrick CERTIFICATE KEY PORT, which answers /size/N with N bytes; or
#        matrix.rb net-http PORT TARGETS, where TARGETS is a JSON file: a list of lanes, each a list
#        of targets requested one after another.

require 'json'
require 'net/http'
require 'openssl'

def serve(certificate, key, port)
  require 'webrick'
  require 'webrick/https'
  silent = WEBrick::Log.new(File::NULL)
  server = WEBrick::HTTPServer.new(
    BindAddress: '127.0.0.1', Port: Integer(port), Logger: silent, AccessLog: [],
    SSLEnable: true, SSLCertificate: OpenSSL::X509::Certificate.new(File.read(certificate)),
    SSLPrivateKey: OpenSSL::PKey.read(File.read(key))
  )
  server.mount_proc('/size') do |request, response|
    response.body = 's' * Integer(request.path[%r{\d+\z}])
  end
  server.start
end

def request(port, targets)
  http = Net::HTTP.new('127.0.0.1', Integer(port))
  http.use_ssl = true
  http.verify_mode = OpenSSL::SSL::VERIFY_NONE
  http.max_retries = 0
  http.keep_alive_timeout = 60
  http.start { targets.each { |target| http.get(target) } }
end

if ARGV[0] == 'webrick'
  serve(*ARGV[1..])
else
  Thread.abort_on_exception = true
  lanes = JSON.parse(File.read(ARGV[2]))
  lanes.map { |targets| Thread.new { request(ARGV[1], targets) } }.each(&:join)
end
