"""gRPC's server reflection, from the shipped descriptor set.

grpcio's servicer uses the generated modules, which have no comments and no JSON names. It cannot
look up methods, and serves only v1alpha of the protocol.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import grpc

from bus_server.services.descriptors import Descriptors

#: Both versions of the protocol; on the wire they are the same.
SERVICES = (
    "grpc.reflection.v1.ServerReflection",
    "grpc.reflection.v1alpha.ServerReflection",
)


class Reflection:
    """The responses to reflection requests. Keeps no state between requests."""

    def __init__(self, descriptors: Descriptors, services: Sequence[str]) -> None:
        """`services`: full names of the services to list."""
        self._descriptors = descriptors
        self._services = sorted(services)
        message_class = descriptors.message_class
        #: The message class of requests.
        self.request_class = message_class("grpc.reflection.v1.ServerReflectionRequest")
        self._response_class = message_class("grpc.reflection.v1.ServerReflectionResponse")

    def respond(self, request: Any, sent: set[str]) -> Any:
        """Returns the response to a request. Errors are responses, too.

        Args:
            sent: names of the files already sent on the stream. Imports that are among them are
                left out, as the protocol allows. The files of this response are added to it.
        """
        response = self._response_class(valid_host=request.host, original_request=request)
        asked = request.WhichOneof("message_request")
        if asked == "list_services":
            for name in self._services:
                response.list_services_response.service.add(name=name)
        elif asked == "all_extension_numbers_of_type":
            name = request.all_extension_numbers_of_type
            numbers = self._descriptors.extension_numbers(name)
            if numbers is None:
                return _refuse(response, grpc.StatusCode.NOT_FOUND, "no such message type")
            response.all_extension_numbers_response.base_type_name = name
            response.all_extension_numbers_response.extension_number.extend(numbers)
        elif asked is None:
            return _refuse(
                response,
                grpc.StatusCode.INVALID_ARGUMENT,
                "message_request is missing or unknown",
            )
        else:
            self._send_files(response, self._file(request, asked), sent)
        return response

    def _file(self, request: Any, asked: str) -> str | None:
        if asked == "file_containing_symbol":
            return self._descriptors.declaring(request.file_containing_symbol)
        if asked == "file_containing_extension":
            extension = request.file_containing_extension
            return self._descriptors.extending(
                extension.containing_type, extension.extension_number
            )
        name: str = request.file_by_filename
        return name if self._descriptors.file(name) is not None else None

    def _send_files(self, response: Any, name: str | None, sent: set[str]) -> None:
        if name is None:
            _refuse(response, grpc.StatusCode.NOT_FOUND, "no such file, symbol or extension")
            return
        imported = [each for each in self._descriptors.with_imports(name) if each not in sent]
        for each in dict.fromkeys([name, *imported]):
            response.file_descriptor_response.file_descriptor_proto.append(
                self._descriptors.file(each)
            )
            sent.add(each)


def _refuse(response: Any, code: grpc.StatusCode, message: str) -> Any:
    response.error_response.error_code = code.value[0]
    response.error_response.error_message = message
    return response
