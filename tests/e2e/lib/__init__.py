# SPDX-License-Identifier: BSD-2-Clause
"""What the end-to-end cases are made of: processes, servers, clients, tlstrace, checks."""
